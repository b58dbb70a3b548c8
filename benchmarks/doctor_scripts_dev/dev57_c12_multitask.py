"""One network, two tasks: which colored shape it is, and which pixels are of it."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class Config:
    epochs: int = 8
    batch_size: int = 30
    lr: float = 3e-3
    weight_decay: float = 1e-4
    width: int = 16
    seg_weight: float = 1.0
    cls_weight: float = 0.5
    clip: float = 5.0
    seed: int = 11


class ShapesWithMasks(Dataset):
    """Images, masks (ground, square, disc, cross) and names; training ones are mirrored at random."""

    def __init__(self, train):
        self.shapes = Shapes(train=train)
        self.train = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, mask = self.shapes.images[index], self.shapes.masks[index]
        if self.train and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return {"image": (image - 0.5) / 0.2, "mask": mask, "label": self.shapes.targets[index]}


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


class TwoHeads(nn.Module):
    def __init__(self, width, classes, regions=4):
        super().__init__()
        self.down1 = block(3, width)
        self.down2 = block(width, 2 * width)
        self.middle = block(2 * width, 2 * width)
        self.up = block(4 * width, width)
        self.segment = nn.Conv2d(2 * width, regions, 1)
        self.classify = nn.Linear(2 * width, classes)

    def forward(self, x):
        full = self.down1(x)
        half = self.down2(F.max_pool2d(full, 2))
        low = self.middle(F.max_pool2d(half, 2))
        wide = torch.cat((half, F.interpolate(low, scale_factor=2.0, mode="nearest")), 1)
        wide = F.interpolate(self.up(wide), scale_factor=2.0, mode="nearest")
        return self.segment(torch.cat((full, wide), 1)), self.classify(low.amax((2, 3)))


class MultiTaskLoss(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.seg_weight, self.cls_weight = config.seg_weight, config.cls_weight

    def forward(self, outputs, batch):
        seg_logits, cls_logits = outputs
        seg = F.cross_entropy(seg_logits, batch["mask"])
        cls = F.cross_entropy(cls_logits, batch["label"])
        return self.seg_weight * seg + self.cls_weight * cls


class Trainer:
    def __init__(self, config):
        self.config = config
        self.model = TwoHeads(config.width, len(NAMES))
        self.criterion = MultiTaskLoss(config)
        self.train_loader = DataLoader(ShapesWithMasks(True), config.batch_size, shuffle=True)
        self.val_loader = DataLoader(ShapesWithMasks(False), 60)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=config.lr, weight_decay=config.weight_decay
        )
        steps = config.epochs * len(self.train_loader)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=steps)

    def run_epoch(self):
        self.model.train()
        total = 0.0
        for batch in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(batch["image"]), batch)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.scheduler.step()
            total = total + loss.detach()
        return float(total) / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        right, seen = 0, 0
        intersection, union = torch.zeros(4), torch.zeros(4)
        for batch in self.val_loader:
            seg_logits, cls_logits = self.model(batch["image"])
            right += (cls_logits.argmax(1) == batch["label"]).sum().item()
            seen += len(batch["label"])
            predicted, mask = seg_logits.argmax(1), batch["mask"]
            for region in range(4):
                a, b = predicted == region, mask == region
                intersection[region] += (a & b).sum()
                union[region] += (a | b).sum()
        return {"accuracy": right / seen, "miou": (intersection / union.clamp(min=1)).mean().item()}

    def fit(self):
        best, state = -1.0, None
        for epoch in range(self.config.epochs):
            loss = self.run_epoch()
            scores = self.validate()
            print(f"epoch {epoch + 1}: loss {loss:.4f} accuracy {scores['accuracy']:.3f} mIoU {scores['miou']:.3f}")
            if scores["miou"] > best:
                best = scores["miou"]
                state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(state)
        return best


def main():
    config = Config()
    torch.manual_seed(config.seed)
    best = Trainer(config).fit()
    print(f"best mIoU {best:.3f}")


if __name__ == "__main__":
    main()
