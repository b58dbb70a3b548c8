"""Semantic segmentation of colored shapes with a small U-Net.

usage: python c01_unet_shapes.py --epochs 8 --lr 4e-3
"""
import argparse
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]
MEAN = torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)
STD = torch.tensor([0.15, 0.15, 0.15]).view(3, 1, 1)


def load_arrays(train, count, size):
    """uint8 images of H x W x 3 and masks of H x W, as read from PNG files."""
    shapes = Shapes(train=train, count=count, size=size)
    images = np.stack([(image.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for image in shapes.images])
    masks = np.stack([mask.numpy() for mask in shapes.masks])
    return images, masks


class SegmentationDataset(Dataset):
    def __init__(self, images, masks, augment=False):
        self.images = images
        self.masks = masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).permute(2, 0, 1).float() / 255.0
        mask = torch.from_numpy(self.masks[idx]).long()
        if self.augment:
            if random.random() < 0.5:
                image = image.flip(-1)
                mask = mask.flip(-1)
            if random.random() < 0.5:
                image = image.flip(-2)
                mask = mask.flip(-2)
        return (image - MEAN) / STD, mask


class DoubleConv(nn.Module):
    def __init__(self, in_ch, out_ch):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(in_ch, out_ch, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_ch),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_ch, out_ch, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_ch),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.net(x)


class UNet(nn.Module):
    def __init__(self, n_classes, base=12):
        super().__init__()
        self.inc = DoubleConv(3, base)
        self.down1 = DoubleConv(base, base * 2)
        self.down2 = DoubleConv(base * 2, base * 4)
        self.up1 = DoubleConv(base * 6, base * 2)
        self.up2 = DoubleConv(base * 3, base)
        self.outc = nn.Conv2d(base, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = F.interpolate(x3, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.up1(torch.cat([x2, x], dim=1))
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.up2(torch.cat([x1, x], dim=1))
        return self.outc(x)


def train_epoch(model, loader, criterion, optimizer, scheduler, device):
    model.train()
    total = 0.0
    for images, masks in loader:
        images, masks = images.to(device), masks.to(device)
        logits = model(images)
        loss = criterion(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * images.size(0)
    return total / len(loader.dataset)


@torch.no_grad()
def validate(model, loader, device, n_classes):
    model.eval()
    confusion = torch.zeros(n_classes, n_classes, dtype=torch.long)
    for images, masks in loader:
        probs = torch.softmax(model(images.to(device)), dim=1)
        preds = probs.argmax(dim=1).cpu()
        confusion += torch.bincount(masks.flatten() * n_classes + preds.flatten(), minlength=n_classes**2).view(n_classes, n_classes)
    inter = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return inter / union.clamp(min=1), inter.sum() / confusion.sum()


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = get_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set = SegmentationDataset(*load_arrays(True, 1200, args.size), augment=True)
    val_set = SegmentationDataset(*load_arrays(False, 300, args.size))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=64)

    model = UNet(len(CLASSES)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=args.lr, total_steps=args.epochs * len(train_loader))

    best = 0.0
    for epoch in range(1, args.epochs + 1):
        train_loss = train_epoch(model, train_loader, criterion, optimizer, scheduler, device)
        iou, pixel_acc = validate(model, val_loader, device, len(CLASSES))
        best = max(best, iou.mean().item())
        per_class = "  ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou.tolist()))
        print(f"epoch {epoch}: loss {train_loss:.4f}  pixel acc {pixel_acc:.4f}  mIoU {iou.mean():.4f}  ({per_class})")
    print(f"best mIoU {best:.4f}")


if __name__ == "__main__":
    main()
