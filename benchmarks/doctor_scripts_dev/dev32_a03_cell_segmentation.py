"""Segment cells under a microscope: bright blobs are cells, bright fibres are not. A small U-Net and a Trainer class."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


@dataclass
class Config:
    train_size: int = 640
    valid_size: int = 160
    image_size: int = 32
    batch_size: int = 16
    epochs: int = 12
    lr: float = 2e-3
    width: int = 12
    seed: int = 7


def make_slides(count, size, seed):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    images, masks = [], []
    for _ in range(count):
        slope = rng.uniform(-0.15, 0.15, 2)
        image = 0.3 + slope[0] * (y / size - 0.5) + slope[1] * (x / size - 0.5)
        mask = np.zeros((size, size), bool)
        for _ in range(rng.integers(0, 3)):
            angle, offset = rng.uniform(0, np.pi), rng.uniform(4, size - 4)
            distance = np.cos(angle) * (x - offset) + np.sin(angle) * (y - offset)
            image = np.where(np.abs(distance) < 1, 0.65, image)
        for _ in range(rng.integers(2, 6)):
            cy, cx = rng.uniform(3, size - 3, 2)
            a, b, turn = rng.uniform(2.5, 5), rng.uniform(2.5, 4), rng.uniform(0, np.pi)
            p = np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)
            q = -np.sin(turn) * (x - cx) + np.cos(turn) * (y - cy)
            cell = (p / a) ** 2 + (q / b) ** 2 < 1
            image = np.where(cell, rng.uniform(0.5, 0.75), image)
            mask |= cell
        image = image + rng.normal(0, 0.06, image.shape)
        images.append((image.clip(0, 1) * 255).astype(np.uint8))
        masks.append(mask)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))


class CellDataset(Dataset):
    def __init__(self, images, masks, mean=0.0, std=1.0, augment=False):
        self.images, self.masks = images, masks
        self.mean, self.std, self.augment = mean, std, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = (self.images[index].float() / 255 - self.mean) / self.std
        mask = self.masks[index].float()
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-2), mask.flip(-2)
        return image[None], mask[None]


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.down1 = double_conv(1, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = double_conv(6 * width, 2 * width)
        self.up1 = double_conv(3 * width, width)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        x = self.bottom(F.max_pool2d(d2, 2))
        x = self.up2(torch.cat([F.interpolate(x, scale_factor=2), d2], 1))
        x = self.up1(torch.cat([F.interpolate(x, scale_factor=2), d1], 1))
        return self.out(x)


def bce_dice(logits, masks):
    probabilities = torch.sigmoid(logits)
    overlap = (probabilities * masks).sum((1, 2, 3))
    dice = (2 * overlap + 1) / (probabilities.sum((1, 2, 3)) + masks.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, masks) + (1 - dice).mean()


class Trainer:
    def __init__(self, config, net, train_set, valid_set):
        self.config, self.net = config, net
        self.train_loader = DataLoader(train_set, config.batch_size, shuffle=True)
        self.valid_loader = DataLoader(valid_set, 32)
        self.optimizer = torch.optim.Adam(net.parameters(), lr=config.lr)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, config.epochs)

    def train_epoch(self):
        self.net.train()
        total = 0.0
        for step, (images, masks) in enumerate(self.train_loader):
            loss = bce_dice(self.net(images), masks)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        self.scheduler.step()
        return total / len(self.train_loader)

    @torch.no_grad()
    def iou(self):
        self.net.eval()
        both = either = 0
        for images, masks in self.valid_loader:
            predicted = torch.sigmoid(self.net(images)) > 0.5
            both += (predicted & masks.bool()).sum().item()
            either += (predicted | masks.bool()).sum().item()
        return both / max(either, 1)

    def fit(self):
        for epoch in range(1, self.config.epochs + 1):
            loss = self.train_epoch()
            print(f"[{epoch:02d}] loss {loss:.4f}  valid IoU {self.iou():.4f}")


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    train_images, train_masks = make_slides(config.train_size, config.image_size, seed=0)
    valid_images, valid_masks = make_slides(config.valid_size, config.image_size, seed=1)
    pixels = train_images.float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    train_set = CellDataset(train_images, train_masks, mean, std, augment=True)
    valid_set = CellDataset(valid_images, valid_masks, mean, std)
    Trainer(config, UNet(config.width), train_set, valid_set).fit()
