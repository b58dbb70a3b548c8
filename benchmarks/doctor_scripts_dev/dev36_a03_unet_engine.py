"""Semantic segmentation of shapes: a small U-Net, trained by an engine with mixed precision."""
import os
import tempfile
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import toydata


@dataclass
class Config:
    classes: tuple = ("background", "square", "disc", "cross")
    width: int = 12
    batch_size: int = 32
    epochs: int = 12
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    max_norm: float = 2.0
    amp: bool = True
    seed: int = 7
    workdir: str = field(default_factory=tempfile.mkdtemp)


class ShapeMasks(Dataset):
    def __init__(self, train, count, augment=False):
        self.shapes = toydata.Shapes(train=train, count=count)
        self.augment = augment

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, i):
        image, mask = self.shapes.images[i], self.shapes.masks[i]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return (image - 0.5) / 0.2, mask


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(),
        )


class UNet(nn.Module):
    def __init__(self, n_classes, w):
        super().__init__()
        self.enc1, self.enc2, self.mid = DoubleConv(3, w), DoubleConv(w, 2 * w), DoubleConv(2 * w, 4 * w)
        self.pool = nn.MaxPool2d(2)
        self.up2, self.dec2 = nn.ConvTranspose2d(4 * w, 2 * w, 2, stride=2), DoubleConv(4 * w, 2 * w)
        self.up1, self.dec1 = nn.ConvTranspose2d(2 * w, w, 2, stride=2), DoubleConv(2 * w, w)
        self.head = nn.Conv2d(w, n_classes, 1)

    def forward(self, x):
        e1 = self.enc1(x)
        e2 = self.enc2(self.pool(e1))
        m = self.mid(self.pool(e2))
        d2 = self.dec2(torch.cat([self.up2(m), e2], dim=1))
        d1 = self.dec1(torch.cat([self.up1(d2), e1], dim=1))
        return self.head(d1)


class Engine:
    def __init__(self, cfg, model, train_loader, val_loader):
        self.cfg, self.model = cfg, model
        self.train_loader, self.val_loader = train_loader, val_loader
        self.criterion = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(model.parameters(), lr=cfg.lr, momentum=cfg.momentum,
                                         weight_decay=cfg.weight_decay, nesterov=True)
        total = cfg.epochs * len(train_loader)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda it: max(0.0, 1 - it / total) ** 0.9)
        self.scaler = torch.amp.GradScaler("cpu", enabled=cfg.amp)
        self.checkpoint = os.path.join(cfg.workdir, "best.pt")
        self.best_loss = float("inf")

    def forward(self, images):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.cfg.amp):
            return self.model(images).float()

    def train_one_epoch(self):
        self.model.train()
        running = 0.0
        for images, masks in self.train_loader:
            logits = self.forward(images)
            loss = self.criterion(logits, masks)

            self.optimizer.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.max_norm)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scheduler.step()
            running += loss.item() * len(images)
        return running / len(self.train_loader.dataset)

    @torch.no_grad()
    def evaluate(self):
        self.model.eval()
        n = len(self.cfg.classes)
        confusion = torch.zeros(n, n, dtype=torch.long)
        running = 0.0
        for images, masks in self.val_loader:
            logits = self.forward(images)
            running += nn.functional.cross_entropy(logits, masks).item() * len(images)
            predicted = logits.argmax(dim=1)
            confusion += torch.bincount((masks * n + predicted).flatten(), minlength=n * n).view(n, n)
        inter = confusion.diag().float()
        union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
        return running / len(self.val_loader.dataset), inter / union.clamp(min=1)

    def fit(self):
        for epoch in range(self.cfg.epochs):
            train_loss = self.train_one_epoch()
            val_loss, iou = self.evaluate()
            print(f"[{epoch + 1:02d}] train {train_loss:.4f}  val {val_loss:.4f}  mIoU {iou.mean():.3f}")
            if val_loss < self.best_loss:
                self.best_loss = val_loss
                torch.save(self.model.state_dict(), self.checkpoint)
        self.model.load_state_dict(torch.load(self.checkpoint))
        val_loss, iou = self.evaluate()
        print("best:", f"{val_loss:.4f}", {c: round(v, 3) for c, v in zip(self.cfg.classes, iou.tolist())})


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_loader = DataLoader(ShapeMasks(True, 640, augment=True), cfg.batch_size, shuffle=True)
    val_loader = DataLoader(ShapeMasks(False, 160), 64)
    Engine(cfg, UNet(len(cfg.classes), cfg.width), train_loader, val_loader).fit()


if __name__ == "__main__":
    main()
