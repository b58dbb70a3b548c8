"""U-Net for the masks of shapes: three binary channels, BCE plus soft Dice, flips of image and mask."""

import argparse
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class SegmentationDataset(Dataset):
    """Images and one 0/255 mask per class, as they come from files."""

    def __init__(self, train=True, count=300, size=32, augment=False):
        shapes = Shapes(train=train, count=count, size=size)
        self.images = [(i.permute(1, 2, 0).numpy() * 255).astype(np.uint8) for i in shapes.images]
        self.masks = [np.stack([(m.numpy() == c + 1) * 255 for c in range(3)], -1).astype(np.uint8) for m in shapes.masks]
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, mask = Image.fromarray(self.images[idx]), Image.fromarray(self.masks[idx])
        if self.augment:
            if random.random() > 0.5:
                image = image.transpose(Image.FLIP_LEFT_RIGHT)
                mask = mask.transpose(Image.FLIP_LEFT_RIGHT)
            if random.random() > 0.5:
                image = image.transpose(Image.FLIP_TOP_BOTTOM)
                mask = mask.transpose(Image.FLIP_TOP_BOTTOM)
        image = np.asarray(image, dtype=np.float32) / 255.0
        mask = np.asarray(mask, dtype=np.float32) / 255.0
        image = (image - 0.5) / 0.25
        return torch.from_numpy(image).permute(2, 0, 1), torch.from_numpy(mask).permute(2, 0, 1)


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.up = nn.ConvTranspose2d(cin, cout, 2, stride=2)
        self.conv = DoubleConv(2 * cout, cout)

    def forward(self, x, skip):
        x = self.up(x)
        return self.conv(torch.cat([skip, x], dim=1))


class UNet(nn.Module):
    def __init__(self, in_channels=3, n_classes=3, base=8):
        super().__init__()
        self.inc = DoubleConv(in_channels, base)
        self.down1 = DoubleConv(base, base * 2)
        self.down2 = DoubleConv(base * 2, base * 4)
        self.down3 = DoubleConv(base * 4, base * 8)
        self.pool = nn.MaxPool2d(2)
        self.up3 = Up(base * 8, base * 4)
        self.up2 = Up(base * 4, base * 2)
        self.up1 = Up(base * 2, base)
        self.outc = nn.Conv2d(base, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(self.pool(x1))
        x3 = self.down2(self.pool(x2))
        x4 = self.down3(self.pool(x3))
        y = self.up3(x4, x3)
        y = self.up2(y, x2)
        y = self.up1(y, x1)
        return self.outc(y)


def dice_coefficient(probs, target, eps=1.0):
    dims = (0, 2, 3)
    intersection = (probs * target).sum(dims)
    return ((2 * intersection + eps) / (probs.sum(dims) + target.sum(dims) + eps)).mean()


class BCEDiceLoss(nn.Module):
    def __init__(self, bce_weight=0.5):
        super().__init__()
        self.bce_weight = bce_weight

    def forward(self, logits, target):
        bce = F.binary_cross_entropy_with_logits(logits, target)
        dice = 1 - dice_coefficient(torch.sigmoid(logits), target)
        return self.bce_weight * bce + (1 - self.bce_weight) * dice


@torch.inference_mode()
def evaluate(net, loader):
    net.eval()
    inter, union = torch.zeros(3), torch.zeros(3)
    for image, mask in loader:
        pred = torch.sigmoid(net(image)) > 0.5
        truth = mask > 0.5
        inter += (pred & truth).sum((0, 2, 3))
        union += (pred | truth).sum((0, 2, 3))
    net.train()
    return (inter / union.clamp(min=1)).mean().item()


def train_net(args):
    torch.manual_seed(args.seed)
    random.seed(args.seed)
    train_set = SegmentationDataset(train=True, count=480, augment=True)
    val_set = SegmentationDataset(train=False, count=90)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size)
    net = UNet()
    criterion = BCEDiceLoss()
    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=3, factor=0.3)
    best, path = -1.0, os.path.join(tempfile.mkdtemp(), "checkpoint.pth")

    for epoch in range(1, args.epochs + 1):
        net.train()
        epoch_loss = 0.0
        for image, mask in train_loader:
            loss = criterion(net(image), mask)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            epoch_loss += loss.item() * len(image)
        iou = evaluate(net, val_loader)
        scheduler.step(iou)
        print(f"Epoch {epoch}: loss {epoch_loss / len(train_set):.4f} val IoU {iou:.4f} lr {optimizer.param_groups[0]['lr']:.1e}")
        if iou > best:
            best = iou
            torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path))
    print(f"best checkpoint: val IoU {evaluate(net, val_loader):.4f}")


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=14)
    parser.add_argument("--batch-size", "-b", type=int, default=15)
    parser.add_argument("--lr", "-l", type=float, default=4e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    train_net(get_args())
