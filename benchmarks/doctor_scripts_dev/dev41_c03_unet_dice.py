"""Semantic segmentation of drawn shapes with a small U-Net: cross entropy and Dice, polynomial decay."""

import os
import random
import tempfile
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


@dataclass
class Config:
    num_classes: int = 4  # background, square, disc, cross
    size: int = 24
    width: int = 12
    batch_size: int = 20
    epochs: int = 10
    lr: float = 3e-3
    dice_weight: float = 0.5
    num_val: int = 80
    seed: int = 5


class SegmentationView(Dataset):
    """Some of the drawings with their masks; what turns an image turns its mask."""

    def __init__(self, shapes, indices, augment):
        self.shapes, self.indices, self.augment = shapes, indices, augment

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        image, mask = self.shapes.images[self.indices[i]], self.shapes.masks[self.indices[i]]
        if self.augment:
            if random.random() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            quarter = random.randrange(4)
            image, mask = image.rot90(quarter, (-2, -1)), mask.rot90(quarter, (-2, -1))
        return (image - 0.5) / 0.2, mask


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.enc1 = double_conv(3, width)
        self.enc2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.dec2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.dec1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x):
        fine = self.enc1(x)
        coarse = self.enc2(F.max_pool2d(fine, 2))
        x = self.bottom(F.max_pool2d(coarse, 2))
        x = self.dec2(torch.cat([self.up2(x), coarse], dim=1))
        x = self.dec1(torch.cat([self.up1(x), fine], dim=1))
        return self.head(x)


def dice_loss(logits, target, smooth=1.0):
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(target, logits.shape[1]).permute(0, 3, 1, 2).float()
    overlap = (probs * onehot).sum((0, 2, 3))
    total = (probs + onehot).sum((0, 2, 3))
    dice = (2 * overlap + smooth) / (total + smooth)
    return 1 - dice[1:].mean()  # the background is left to the cross entropy


class Runner:
    def __init__(self, cfg):
        torch.manual_seed(cfg.seed)
        random.seed(cfg.seed)
        self.cfg = cfg
        shapes = Shapes(train=True, count=480, size=cfg.size)
        order = torch.randperm(len(shapes)).tolist()
        idx_val, idx_train = order[: cfg.num_val], order[cfg.num_val :]
        held_out = Shapes(train=False, count=120, size=cfg.size)
        self.train_loader = DataLoader(SegmentationView(shapes, idx_train, True), cfg.batch_size, shuffle=True)
        self.val_loader = DataLoader(SegmentationView(shapes, idx_val, False), 40)
        self.test_loader = DataLoader(SegmentationView(held_out, range(len(held_out)), False), 40)

        self.model = UNet(cfg.num_classes, cfg.width)
        self.cross_entropy = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=1e-4)
        steps = cfg.epochs * len(self.train_loader)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda step: (1 - step / steps) ** 0.9)

    def train_epoch(self):
        self.model.train()
        running, seen = 0.0, 0
        for images, masks in self.train_loader:
            self.optimizer.zero_grad()
            logits = self.model(images)
            loss = self.cross_entropy(logits, masks) + self.cfg.dice_weight * dice_loss(logits, masks)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()  # decays from step to step
            running += loss.item() * len(images)
            seen += len(images)
        return running / seen

    @torch.no_grad()
    def mean_iou(self, loader):
        self.model.eval()
        k = self.cfg.num_classes
        confusion = torch.zeros(k, k)
        for images, masks in loader:
            predicted = self.model(images).argmax(dim=1)
            confusion += torch.bincount((k * masks + predicted).flatten(), minlength=k * k).view(k, k)
        hit = confusion.diag()
        return (hit / (confusion.sum(0) + confusion.sum(1) - hit).clamp(min=1)).mean().item()

    def run(self, folder):
        path, best = os.path.join(folder, "best.pt"), -1.0
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            miou = self.mean_iou(self.val_loader)
            if miou > best:
                best = miou
                torch.save(self.model.state_dict(), path)
            print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  val mIoU {miou:.4f}")
        self.model.load_state_dict(torch.load(path, weights_only=True))
        print(f"best val mIoU {best:.4f}  test mIoU {self.mean_iou(self.test_loader):.4f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        Runner(Config()).run(directory)
