"""A small U-Net that segments shapes: background, square, disc, cross."""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]
SIZE = 24


def load_tiles(count):
    """Pictures (N x H x W x 3) and masks (N x H x W), both uint8, as np.load would give them."""
    raw = Shapes(train=True, count=count, size=SIZE)
    images = (torch.stack(raw.images) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    masks = torch.stack(raw.masks).to(torch.uint8).numpy()
    return images, masks


class TileDataset(Dataset):
    def __init__(self, images, masks, ids, augment):
        self.images, self.masks, self.ids, self.augment = images, masks, ids, augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        i = int(self.ids[index])
        image = torch.from_numpy(self.images[i]).permute(2, 0, 1).float() / 255
        mask = torch.from_numpy(self.masks[i]).long()
        if self.augment:
            for axis in (1, 2):  # of C x H x W
                if random.random() < 0.5:
                    image, mask = image.flip(axis), mask.flip(axis - 1)
            image = (image * random.uniform(0.9, 1.1)).clamp(0, 1)
        return (image - 0.5) / 0.25, mask


class ConvBlock(nn.Sequential):
    def __init__(self, c_in, c_out):
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, n_classes, width=12):
        super().__init__()
        self.down1 = ConvBlock(3, width)
        self.down2 = ConvBlock(width, 2 * width)
        self.bottom = nn.Sequential(ConvBlock(2 * width, 4 * width), ConvBlock(4 * width, 4 * width))
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = ConvBlock(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = ConvBlock(2 * width, width)
        self.head = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        x = self.bottom(F.max_pool2d(d2, 2))
        x = self.dec2(torch.cat([self.up2(x), d2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), d1], dim=1))
        return self.head(x)


class DiceCELoss(nn.Module):
    """Cross entropy and soft Dice over all classes of the batch."""

    def __init__(self, n_classes, ce_weight=0.5, smooth=1.0):
        super().__init__()
        self.n_classes, self.ce_weight, self.smooth = n_classes, ce_weight, smooth
        self.ce = nn.CrossEntropyLoss()

    def forward(self, logits, mask):
        probs = logits.softmax(dim=1)
        onehot = F.one_hot(mask, self.n_classes).permute(0, 3, 1, 2).float()
        overlap = (probs * onehot).sum(dim=(0, 2, 3))
        total = (probs + onehot).sum(dim=(0, 2, 3))
        dice = (2 * overlap + self.smooth) / (total + self.smooth)
        return self.ce_weight * self.ce(logits, mask) + 1 - dice.mean()


class IoUMeter:
    """Counts pixels over the whole data set, so that all pixels weigh the same."""

    def __init__(self, n_classes):
        self.matrix = torch.zeros(n_classes, n_classes, dtype=torch.long)

    def update(self, pred, mask):
        n = len(self.matrix)
        self.matrix += torch.bincount(mask.flatten() * n + pred.flatten(), minlength=n * n).view(n, n)

    def result(self):
        hits = self.matrix.diag()
        union = self.matrix.sum(0) + self.matrix.sum(1) - hits
        return (hits / union.clamp(min=1)).tolist(), (hits.sum() / self.matrix.sum()).item()


class Trainer:
    def __init__(self, model, train_loader, val_loader, epochs, lr=3e-3):
        self.model, self.train_loader, self.val_loader, self.epochs = model, train_loader, val_loader, epochs
        self.criterion = DiceCELoss(len(CLASSES))
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-3)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=epochs)

    def train_one_epoch(self):
        self.model.train()
        running = 0.0
        for image, mask in self.train_loader:
            self.optimizer.zero_grad(set_to_none=True)
            loss = self.criterion(self.model(image), mask)
            loss.backward()
            self.optimizer.step()
            running += loss.item() * image.size(0)
        self.scheduler.step()
        return running / len(self.train_loader.dataset)

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        meter, running = IoUMeter(len(CLASSES)), 0.0
        for image, mask in self.val_loader:
            logits = self.model(image)
            running += self.criterion(logits, mask).item() * image.size(0)
            meter.update(logits.argmax(dim=1), mask)
        return running / len(self.val_loader.dataset), *meter.result()

    def run(self):
        for epoch in range(1, self.epochs + 1):
            train_loss = self.train_one_epoch()
            val_loss, iou, pixel_acc = self.validate()
            mean_iou = sum(iou[1:]) / (len(iou) - 1)  # the background is left out of the mean
            print(
                f"[{epoch:02d}/{self.epochs}] train {train_loss:.4f}  val {val_loss:.4f}  "
                f"pixel acc {pixel_acc:.4f}  mIoU {mean_iou:.4f}"
            )
        print("  ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou)))


def main():
    random.seed(5)
    torch.manual_seed(5)
    torch.set_num_threads(1)
    rng = np.random.default_rng(5)

    images, masks = load_tiles(500)
    ids = rng.permutation(len(images))
    val_ids, train_ids = ids[:100], ids[100:]
    train_ids = np.repeat(train_ids, 2)  # every tile twice an epoch, flipped anew each time
    train_loader = DataLoader(TileDataset(images, masks, train_ids, augment=True), batch_size=16, shuffle=True)
    val_loader = DataLoader(TileDataset(images, masks, val_ids, augment=False), batch_size=50)

    Trainer(UNet(len(CLASSES)), train_loader, val_loader, epochs=16).run()


if __name__ == "__main__":
    main()
