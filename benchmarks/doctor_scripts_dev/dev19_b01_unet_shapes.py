"""U-Net for semantic segmentation: squares, discs and crosses on a noisy ground.

    python b01_unet_shapes.py --epochs 12 --batch-size 16 --lr 2e-3
"""

import argparse
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]


def image_to_tensor(array):
    """H x W x C uint8 (as PIL reads it) to a float tensor C x H x W in [0, 1]."""
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def mask_to_tensor(array):
    """H x W uint8 with the index of a class per pixel to a long tensor."""
    return torch.from_numpy(array.astype(np.int64))


class ShapesSegmentation(Dataset):
    mean = torch.tensor([0.5, 0.5, 0.5]).view(3, 1, 1)
    std = torch.tensor([0.2, 0.2, 0.2]).view(3, 1, 1)

    def __init__(self, train, augment=False):
        source = Shapes(train=train, count=640 if train else 160, size=32)
        self.images = [(x.permute(1, 2, 0) * 255).byte().numpy() for x in source.images]
        self.masks = [m.byte().numpy() for m in source.masks]
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = image_to_tensor(self.images[index])
        mask = mask_to_tensor(self.masks[index])
        if self.augment and random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        if self.augment and random.random() < 0.5:
            image, mask = image.flip(-2), mask.flip(-2)
        return (image - self.mean) / self.std, mask


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
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=4, width=12):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = Up(4 * width, 2 * width)
        self.up2 = Up(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


@torch.no_grad()
def evaluate(model, loader, device):
    model.eval()
    confusion = torch.zeros(len(CLASSES), len(CLASSES))
    for images, masks in loader:
        pred = model(images.to(device)).argmax(dim=1).cpu()
        confusion += torch.bincount(masks.flatten() * len(CLASSES) + pred.flatten(),
                                    minlength=len(CLASSES) ** 2).view(len(CLASSES), -1)
    hit = confusion.diag()
    iou = hit / (confusion.sum(0) + confusion.sum(1) - hit)
    return (hit.sum() / confusion.sum()).item(), np.nanmean(iou.numpy()), iou


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_loader = DataLoader(ShapesSegmentation(True, augment=True), args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(ShapesSegmentation(False), args.batch_size)

    model = UNet(n_classes=len(CLASSES)).to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(args.epochs):
        model.train()
        start, total = time.time(), 0.0
        for images, masks in train_loader:
            images, masks = images.to(device), masks.to(device)
            loss = criterion(model(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        accuracy, miou, _ = evaluate(model, val_loader, device)
        print(f"epoch {epoch + 1:2d}  loss {total / len(train_loader):.4f}  pixel acc {accuracy:.4f}  "
              f"mIoU {miou:.4f}  {time.time() - start:.1f}s")

    _, _, iou = evaluate(model, val_loader, device)
    for name, value in zip(CLASSES, iou.tolist()):
        print(f"{name:>12}: {value:.3f}")


if __name__ == "__main__":
    main()
