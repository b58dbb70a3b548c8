"""Segmentation of shapes: a small U-Net, weighted cross entropy + soft Dice, OneCycle; dataclass config."""
import os
import sys
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from toydata import Shapes

CLASSES = 4  # ground, square, disc, cross


@dataclass
class Config:
    seed: int = 3
    train_count: int = 1200
    val_count: int = 240
    batch_size: int = 16
    epochs: int = 12
    max_lr: float = 4e-3
    weight_decay: float = 1e-4
    dice: float = 0.5
    width: int = 16


class ShapeMasks(Dataset):
    def __init__(self, train, count):
        self.base = Shapes(train=train, count=count)
        self.augment = train

    def __len__(self):
        return len(self.base)

    def __getitem__(self, index):
        image = (self.base.images[index] - 0.5) / 0.2
        mask = self.base.masks[index]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


def conv(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.enc1 = nn.Sequential(conv(3, width), conv(width, width))
        self.enc2 = nn.Sequential(conv(width, 2 * width), conv(2 * width, 2 * width))
        self.middle = nn.Sequential(conv(2 * width, 4 * width), conv(4 * width, 4 * width))
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = conv(2 * width, width)
        self.head = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x):
        a = self.enc1(x)
        b = self.enc2(F.max_pool2d(a, 2))
        c = self.middle(F.max_pool2d(b, 2))
        b = self.dec2(torch.cat([self.up2(c), b], 1))
        a = self.dec1(torch.cat([self.up1(b), a], 1))
        return self.head(a)


def dice_loss(logits, masks):
    probabilities = logits.softmax(1)
    truth = F.one_hot(masks, CLASSES).permute(0, 3, 1, 2).float()
    overlap = (probabilities * truth).sum((0, 2, 3))
    sizes = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((2 * overlap + 1) / (sizes + 1)).mean()


def pixel_weights(dataset):
    counts = torch.bincount(torch.stack(dataset.base.masks).flatten(), minlength=CLASSES).float()
    weights = counts.rsqrt()
    return weights / weights.mean()


@torch.no_grad()
def mean_iou(model, loader):
    model.eval()
    confusion = torch.zeros(CLASSES, CLASSES)
    for images, masks in loader:
        predicted = model(images).argmax(1)
        confusion += torch.bincount((masks * CLASSES + predicted).flatten(), minlength=CLASSES**2).view(CLASSES, CLASSES)
    inter = confusion.diag()
    return (inter / (confusion.sum(0) + confusion.sum(1) - inter).clamp(min=1)).mean().item()


def run(config):
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    train_set, val_set = ShapeMasks(True, config.train_count), ShapeMasks(False, config.val_count)
    train_loader = DataLoader(train_set, config.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, 60)
    weights = pixel_weights(train_set)
    model = UNet(config.width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.max_lr, weight_decay=config.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=config.max_lr, epochs=config.epochs, steps_per_epoch=len(train_loader)
    )
    for epoch in range(config.epochs):
        model.train()
        running = 0.0
        for images, masks in train_loader:
            logits = model(images)
            loss = F.cross_entropy(logits, masks, weight=weights) + config.dice * dice_loss(logits, masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            running += loss.item() * len(images)
        print(f"epoch {epoch}: loss {running / len(train_set):.4f}  val mIoU {mean_iou(model, val_loader):.4f}")


if __name__ == "__main__":
    run(Config())
