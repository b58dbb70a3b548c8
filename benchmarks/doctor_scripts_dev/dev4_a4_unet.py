"""Cells under a microscope: U-Net, Dice + BCE, IoU."""

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(3)
random.seed(3)

SIZE = 32


def make_cells(count, seed):
    """Gray images with ellipses (cells) and thin scratches (not cells), masks of 0 and 255."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:SIZE, :SIZE]
    images = np.zeros((count, SIZE, SIZE), np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    for i in range(count):
        image = np.full((SIZE, SIZE), 90.0) + 25 * xx / SIZE * rng.uniform(-1, 1)
        for _ in range(rng.integers(1, 4)):
            cy, cx = rng.uniform(4, SIZE - 4, 2)
            a, b = rng.uniform(2.5, 6, 2)
            inside = ((yy - cy) / a) ** 2 + ((xx - cx) / b) ** 2 <= 1
            image[inside] = rng.uniform(125, 180)
            masks[i][inside] = 255
        for _ in range(2):
            row = rng.integers(0, SIZE)
            image[row, :] = np.where(masks[i][row] > 0, image[row], rng.uniform(125, 180))
        images[i] = np.clip(image + rng.normal(0, 12, image.shape), 0, 255)
    return images, masks


class CellDataset(Dataset):
    def __init__(self, images, masks, augment=False):
        self.images, self.masks, self.augment = images, masks, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image = torch.from_numpy(self.images[idx]).float().div(255).unsqueeze(0)
        mask = torch.from_numpy(self.masks[idx]).float().div(255).unsqueeze(0)
        if self.augment:
            if random.random() > 0.5:
                image = torch.flip(image, dims=[2])
                mask = torch.flip(mask, dims=[2])
            if random.random() > 0.5:
                image = torch.flip(image, dims=[1])
                mask = torch.flip(mask, dims=[1])
        image = (image - 0.4) / 0.15
        return image, mask


class DoubleConv(nn.Sequential):
    def __init__(self, cin, cout):
        super().__init__(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, base=8):
        super().__init__()
        self.inc = DoubleConv(1, base)
        self.down1 = DoubleConv(base, base * 2)
        self.down2 = DoubleConv(base * 2, base * 4)
        self.up1 = nn.ConvTranspose2d(base * 4, base * 2, 2, stride=2)
        self.conv1 = DoubleConv(base * 4, base * 2)
        self.up2 = nn.ConvTranspose2d(base * 2, base, 2, stride=2)
        self.conv2 = DoubleConv(base * 2, base)
        self.outc = nn.Conv2d(base, 1, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_loss(logits, target, smooth=1.0):
    probs = torch.sigmoid(logits)
    intersection = (probs * target).sum(dim=(1, 2, 3))
    union = probs.sum(dim=(1, 2, 3)) + target.sum(dim=(1, 2, 3))
    return (1 - (2 * intersection + smooth) / (union + smooth)).mean()


def iou_counts(logits, target):
    preds = torch.sigmoid(logits) > 0.5
    target = target > 0.5
    return (preds & target).sum().item(), (preds | target).sum().item()


def main():
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, masks = make_cells(256, seed=0)
    val_images, val_masks = make_cells(80, seed=1)
    train_loader = DataLoader(CellDataset(images, masks, augment=True), batch_size=16, shuffle=True)
    val_loader = DataLoader(CellDataset(val_images, val_masks), batch_size=16)

    model = UNet().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    bce = nn.BCEWithLogitsLoss()

    best_iou = 0.0
    for epoch in range(8):
        model.train()
        epoch_loss = 0.0
        for image, mask in train_loader:
            image, mask = image.to(device), mask.to(device)
            logits = model(image)
            loss = bce(logits, mask) + dice_loss(logits, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            epoch_loss += loss.item()

        model.eval()
        inter = union = 0
        with torch.no_grad():
            for image, mask in val_loader:
                i, u = iou_counts(model(image.to(device)), mask.to(device))
                inter, union = inter + i, union + u
        iou = inter / max(union, 1)
        best_iou = max(best_iou, iou)
        print(f"[{epoch + 1:2d}/8] loss {epoch_loss / len(train_loader):.4f}  val IoU {iou:.4f}  best {best_iou:.4f}")


if __name__ == "__main__":
    main()
