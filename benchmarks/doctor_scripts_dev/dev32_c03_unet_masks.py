"""Segmentation of shapes by a small U-Net with cross entropy and dice."""

from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class Config:
    epochs: int = 20
    batch: int = 32
    lr: float = 3e-3
    width: int = 12
    classes: int = 4
    seed: int = 7


class Segmentation(Dataset):
    def __init__(self, train):
        shapes = Shapes(train=train, count=900 if train else 200)
        self.images, self.masks, self.train = shapes.images, shapes.masks, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = (self.images[index] - 0.5) / 0.25, self.masks[index]
        if self.train:
            for axis in (-1, -2):
                if torch.rand(()) < 0.5:
                    image, mask = image.flip(axis), mask.flip(axis)
        return image, mask


class Double(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(),
            nn.Conv2d(cout, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(),
        )  # fmt: skip


class UNet(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.enter = Double(3, width)
        self.down = Double(width, 2 * width)
        self.bottom = Double(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.join1 = Double(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.join2 = Double(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        a = self.enter(x)
        b = self.down(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.join1(torch.cat([self.up1(c), b], 1))
        a = self.join2(torch.cat([self.up2(b), a], 1))
        return self.head(a)


def dice_loss(logits, masks, eps=1.0):
    probabilities = logits.softmax(1)
    wanted = F.one_hot(masks, logits.shape[1]).permute(0, 3, 1, 2).float()
    both = (probabilities * wanted).sum((0, 2, 3))
    sizes = (probabilities + wanted).sum((0, 2, 3))
    return 1 - ((2 * both + eps) / (sizes + eps)).mean()


@torch.no_grad()
def mean_iou(model, loader, classes):
    model.eval()
    confusion = torch.zeros(classes, classes)
    for images, masks in loader:
        guesses = model(images).argmax(1)
        confusion += torch.bincount((masks * classes + guesses).flatten(), minlength=classes**2).view(classes, classes)
    hit = confusion.diag()
    return (hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp(min=1)).mean().item()


def run(config):
    torch.manual_seed(config.seed)
    train_loader = DataLoader(Segmentation(True), config.batch, shuffle=True, drop_last=True)
    val_loader = DataLoader(Segmentation(False), 100)
    model = UNet(config.width, config.classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, config.epochs, power=0.9)
    for epoch in range(config.epochs):
        model.train()
        for images, masks in train_loader:
            logits = model(images)
            loss = F.cross_entropy(logits, masks) + dice_loss(logits, masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch} loss {loss.item():.3f} val mIoU {mean_iou(model, val_loader, config.classes):.3f}")


if __name__ == "__main__":
    run(Config())
