"""Train a small U-Net on multi-class masks of colored shapes."""

import argparse
import logging
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class ShapesSegmentation(Dataset):
    def __init__(self, train, count, size, augment=False):
        source = Shapes(train=train, count=count, size=size)
        self.images, self.masks = source.images, source.masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        img, mask = self.images[idx], self.masks[idx]
        if self.augment and random.random() < 0.5:
            img = torch.flip(img, dims=[2])
            mask = torch.flip(mask, dims=[1])
        if self.augment and random.random() < 0.5:
            img = torch.flip(img, dims=[1])
            mask = torch.flip(mask, dims=[0])
        img = (img - 0.5) / 0.2
        return {"image": img, "mask": mask}


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
        self.conv = DoubleConv(2 * out_channels, out_channels)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=12):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, width)
        self.downs = nn.ModuleList([DoubleConv(width, 2 * width), DoubleConv(2 * width, 4 * width)])
        self.ups = nn.ModuleList([Up(4 * width, 2 * width), Up(2 * width, width)])
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x):
        skips = [self.inc(x)]
        for down in self.downs:
            skips.append(down(F.max_pool2d(skips[-1], 2)))
        x = skips.pop()
        for up in self.ups:
            x = up(x, skips.pop())
        return self.outc(x)


@torch.no_grad()
def evaluate(net, dataloader, device):
    net.eval()
    intersection = torch.zeros(net.n_classes)
    total = torch.zeros(net.n_classes)
    for batch in dataloader:
        image, mask_true = batch["image"].to(device), batch["mask"].to(device)
        mask_pred = net(image).argmax(dim=1)
        for c in range(net.n_classes):
            p, t = mask_pred == c, mask_true == c
            intersection[c] += (p & t).sum().item()
            total[c] += p.sum().item() + t.sum().item()
    net.train()
    dice = 2 * intersection / total.clamp(min=1)
    return dice[1:].mean().item()


def train_model(net, device, args, checkpoint):
    train_set = ShapesSegmentation(train=True, count=512, size=32, augment=True)
    val_set = ShapesSegmentation(train=False, count=160, size=32)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size, shuffle=False)

    optimizer = optim.Adam(net.parameters(), lr=args.lr, weight_decay=1e-6)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=1, factor=0.1)
    criterion = nn.CrossEntropyLoss()
    best_dice = 0.0

    for epoch in range(1, args.epochs + 1):
        net.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images = batch["image"].to(device)
            true_masks = batch["mask"].to(device)
            masks_pred = net(images)
            loss = criterion(masks_pred, true_masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()
            epoch_loss += loss.item() * images.size(0)
        val_dice = evaluate(net, val_loader, device)
        scheduler.step(val_dice)
        logging.info("epoch %d: loss %.4f, validation Dice %.4f", epoch, epoch_loss / len(train_set), val_dice)
        if val_dice > best_dice:
            best_dice = val_dice
            torch.save(net.state_dict(), checkpoint)
    net.load_state_dict(torch.load(checkpoint))
    logging.info("best model: Dice %.4f", evaluate(net, val_loader, device))


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=10)
    parser.add_argument("--batch-size", "-b", type=int, default=32)
    parser.add_argument("--lr", "-l", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = UNet(n_channels=3, n_classes=4).to(device)
    with tempfile.TemporaryDirectory() as folder:
        train_model(model, device, args, os.path.join(folder, "checkpoint.pth"))
