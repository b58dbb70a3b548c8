"""Binary segmentation of synthetic cell images with a small U-Net."""
import argparse
import copy
import logging
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset


def draw_sample(rng, size):
    yy, xx = np.mgrid[0:size, 0:size]
    image = 90 + rng.uniform(-0.5, 0.5) * xx + rng.uniform(-0.5, 0.5) * yy
    mask = np.zeros((size, size), dtype=np.uint8)
    # debris (rectangles) is background, cells (ellipses) are foreground
    for _ in range(rng.integers(1, 4)):
        y, x = rng.integers(0, size - 14, 2)
        h, w = rng.integers(5, 14, 2)
        image[y:y + h, x:x + w] += rng.uniform(25, 60)
    for _ in range(rng.integers(1, 5)):
        cy, cx = rng.uniform(8, size - 8, 2)
        a, b = rng.uniform(4, 10, 2)
        t = rng.uniform(0, np.pi)
        u = (xx - cx) * np.cos(t) + (yy - cy) * np.sin(t)
        v = -(xx - cx) * np.sin(t) + (yy - cy) * np.cos(t)
        cell = (u / a) ** 2 + (v / b) ** 2 <= 1
        image[cell] += rng.uniform(25, 60)
        mask[cell] = 1
    image = image + rng.normal(0, 12, (size, size))
    return np.clip(image, 0, 255).astype(np.uint8), mask


class CellDataset(Dataset):
    def __init__(self, images, masks, mean, std, augment=False):
        self.images, self.masks = images, masks
        self.mean, self.std = mean, std
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        img = self.images[idx].astype(np.float32)
        mask = self.masks[idx].astype(np.float32)
        img = (img - self.mean) / self.std
        if self.augment:
            if random.random() < 0.5:
                img, mask = img[:, ::-1], mask[:, ::-1]
            if random.random() < 0.5:
                img, mask = img[::-1], mask[::-1]
        return torch.from_numpy(img.copy()).unsqueeze(0), torch.from_numpy(mask.copy())


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


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels=1, n_classes=1, base=8):
        super().__init__()
        self.inc = DoubleConv(n_channels, base)
        self.down1 = DoubleConv(base, base * 2)
        self.down2 = DoubleConv(base * 2, base * 4)
        self.down3 = DoubleConv(base * 4, base * 8)
        self.pool = nn.MaxPool2d(2)
        self.up1 = Up(base * 8, base * 4)
        self.up2 = Up(base * 4, base * 2)
        self.up3 = Up(base * 2, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(self.pool(x1))
        x3 = self.down2(self.pool(x2))
        x4 = self.down3(self.pool(x3))
        x = self.up1(x4, x3)
        x = self.up2(x, x2)
        x = self.up3(x, x1)
        return self.outc(x)


def dice_loss(logits, target, eps=1.0):
    prob = torch.sigmoid(logits)
    inter = (prob * target).sum(dim=(1, 2))
    total = prob.sum(dim=(1, 2)) + target.sum(dim=(1, 2))
    return 1 - ((2 * inter + eps) / (total + eps)).mean()


@torch.no_grad()
def evaluate(net, loader, device):
    net.eval()
    inter = pred_sum = true_sum = 0.0
    for images, masks_true in loader:
        images, masks_true = images.to(device), masks_true.to(device)
        logits = net(images).squeeze(1)
        masks_pred = (torch.sigmoid(logits) > 0.5).float()
        inter += (masks_pred * masks_true).sum().item()
        pred_sum += masks_pred.sum().item()
        true_sum += masks_true.sum().item()
    net.train()
    dice = 2 * inter / max(pred_sum + true_sum, 1.0)
    iou = inter / max(pred_sum + true_sum - inter, 1.0)
    return dice, iou


def train_net(net, device, train_loader, val_loader, epochs, lr):
    optimizer = optim.Adam(net.parameters(), lr=lr, weight_decay=1e-5)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode='max', factor=0.3, patience=2)
    eval_every = max(len(train_loader) // 2, 1)
    best_dice, best_state = -1.0, None

    net.train()
    for epoch in range(1, epochs + 1):
        epoch_loss = 0.0
        for step, (images, true_masks) in enumerate(train_loader, start=1):
            images, true_masks = images.to(device), true_masks.to(device)
            masks_pred = net(images).squeeze(1)
            loss = F.binary_cross_entropy_with_logits(masks_pred, true_masks)
            loss = loss + dice_loss(masks_pred, true_masks)

            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            epoch_loss += loss.item() * images.size(0)

            if step % eval_every == 0:
                val_dice, val_iou = evaluate(net, val_loader, device)
                if val_dice > best_dice:
                    best_dice, best_state = val_dice, copy.deepcopy(net.state_dict())
        scheduler.step(val_dice)
        logging.info('epoch %d  loss %.4f  val dice %.4f  val iou %.4f',
                     epoch, epoch_loss / len(train_loader.dataset), val_dice, val_iou)
    net.load_state_dict(best_state)
    return net


def get_args():
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    parser.add_argument('--epochs', '-e', type=int, default=8)
    parser.add_argument('--batch-size', '-b', type=int, default=16)
    parser.add_argument('--lr', type=float, default=2e-3)
    parser.add_argument('--size', type=int, default=64)
    parser.add_argument('--n-images', type=int, default=480)
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


if __name__ == '__main__':
    args = get_args()
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')

    rng = np.random.default_rng(args.seed)
    samples = [draw_sample(rng, args.size) for _ in range(args.n_images)]
    images = np.stack([s[0] for s in samples])
    masks = np.stack([s[1] for s in samples])
    n_val = args.n_images // 6
    n_train = args.n_images - 2 * n_val
    mean, std = float(images[:n_train].mean()), float(images[:n_train].std())

    train_set = CellDataset(images[:n_train], masks[:n_train], mean, std, augment=True)
    val_set = CellDataset(images[n_train:n_train + n_val], masks[n_train:n_train + n_val], mean, std)
    test_set = CellDataset(images[n_train + n_val:], masks[n_train + n_val:], mean, std)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size)
    test_loader = DataLoader(test_set, batch_size=args.batch_size)

    net = UNet(n_channels=1, n_classes=1).to(device)
    net = train_net(net, device, train_loader, val_loader, args.epochs, args.lr)
    test_dice, test_iou = evaluate(net, test_loader, device)
    logging.info('test dice %.4f  test iou %.4f', test_dice, test_iou)
