"""Cut objects out of their background: a small U-Net, one binary mask an image."""

import argparse
import logging
import random
import tempfile
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class ObjectMasks(Dataset):
    def __init__(self, shapes, mean=0.0, std=1.0, augment=False):
        self.images = shapes.images
        self.masks = [(mask > 0).float() for mask in shapes.masks]
        self.mean, self.std = mean, std
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, mask = self.images[idx], self.masks[idx]
        if self.augment:
            if random.random() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if random.random() < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        image = (image - self.mean) / self.std
        return {"image": image, "mask": mask}


class DoubleConv(nn.Module):
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


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=1, width=8):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, kernel_size=2, stride=2)
        self.conv1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2)
        self.conv2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_coeff(pred, target, epsilon=1e-6):
    """Dice of each image of a batch, (N, H, W) and (N, H, W)."""
    inter = 2 * (pred * target).sum(dim=(-1, -2))
    sets_sum = pred.sum(dim=(-1, -2)) + target.sum(dim=(-1, -2))
    return (inter + epsilon) / (sets_sum + epsilon)


@torch.no_grad()
def evaluate(net, loader, device):
    net.eval()
    total, seen = 0.0, 0
    for batch in loader:
        images, true_masks = batch["image"].to(device), batch["mask"].to(device)
        pred_masks = (torch.sigmoid(net(images).squeeze(1)) > 0.5).float()
        total += dice_coeff(pred_masks, true_masks).sum().item()
        seen += len(images)
    return total / seen


def train_model(net, train_loader, val_loader, device, epochs, learning_rate, checkpoint):
    optimizer = optim.RMSprop(net.parameters(), lr=learning_rate, weight_decay=1e-8, momentum=0.9)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=1)
    criterion = nn.BCEWithLogitsLoss()
    best = 0.0

    for epoch in range(1, epochs + 1):
        net.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, true_masks = batch["image"].to(device), batch["mask"].to(device)
            logits = net(images).squeeze(1)
            loss = criterion(logits, true_masks)
            loss = loss + 1 - dice_coeff(torch.sigmoid(logits), true_masks).mean()

            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), max_norm=1.0)
            optimizer.step()
            epoch_loss += loss.item() * len(images)

        val_score = evaluate(net, val_loader, device)
        scheduler.step(val_score)
        logging.info(
            "epoch %d: loss %.4f, validation Dice %.4f, learning rate %g",
            epoch, epoch_loss / len(train_loader.dataset), val_score, optimizer.param_groups[0]["lr"],
        )
        if val_score > best:
            best = val_score
            torch.save(net.state_dict(), checkpoint)
    return best


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and masks")
    parser.add_argument("--epochs", "-e", type=int, default=10)
    parser.add_argument("--batch-size", "-b", type=int, default=16)
    parser.add_argument("--learning-rate", "-l", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cpu")

    train_shapes = Shapes(train=True, count=600, size=32)
    val_shapes = Shapes(train=False, count=160, size=32)
    stack = torch.stack(train_shapes.images)
    mean = stack.mean(dim=(0, 2, 3)).view(3, 1, 1)
    std = stack.std(dim=(0, 2, 3)).view(3, 1, 1)
    train_set = ObjectMasks(train_shapes, mean, std, augment=True)
    val_set = ObjectMasks(val_shapes, mean, std)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size, shuffle=False)

    net = UNet(n_channels=3, n_classes=1).to(device)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "unet.pth"
        best = train_model(net, train_loader, val_loader, device, args.epochs, args.learning_rate, checkpoint)
        net.load_state_dict(torch.load(checkpoint))
    logging.info("best validation Dice %.4f, restored %.4f", best, evaluate(net, val_loader, device))
