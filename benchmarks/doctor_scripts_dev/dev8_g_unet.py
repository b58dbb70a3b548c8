"""U-Net for cells (generated): dice + BCE on one channel a class, IoU by class, void pixels ignored."""
import argparse
import logging
import os
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

CLASS_NAMES = ['background', 'nucleus', 'rod']
VOID = 255


def synth_cell_image(rng, size=48):
    """grey picture and mask of class indices: round nuclei (1), long rods (2), a void rim around either"""
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    img = rng.uniform(.35, .5) + .06 * np.sin(xx / rng.uniform(3, 9) + rng.uniform(0, 6)) + 0 * yy
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(3, 6)):
        cx, cy, kind = rng.uniform(6, size - 6), rng.uniform(6, size - 6), rng.integers(1, 3)
        if kind == 1:
            d = np.hypot(xx - cx, yy - cy) / rng.uniform(4, 7)
        else:
            a = rng.uniform(0, np.pi)
            u, v = (xx - cx) * np.cos(a) + (yy - cy) * np.sin(a), -(xx - cx) * np.sin(a) + (yy - cy) * np.cos(a)
            d = np.maximum(abs(u) / rng.uniform(9, 13), abs(v) / 2.2)
        body = d < 1
        mask[(d >= 1) & (d < 1.15) & (mask == 0)] = VOID
        mask[body] = kind
        img = np.where(body, rng.uniform(.6, .85), img)
    return (img + rng.normal(0, .09, img.shape)).clip(0, 1).astype(np.float32), mask


class CellDataset(Dataset):
    mean, std = 0.5, 0.17

    def __init__(self, n, seed, scale=2 / 3, augment=False):
        rng = np.random.default_rng(seed)
        self.items = [synth_cell_image(rng) for _ in range(n)]
        self.scale, self.augment = scale, augment
        logging.info(f'Creating dataset with {n} examples')

    def __len__(self):
        return len(self.items)

    def preprocess(self, img, mask):
        img = torch.from_numpy(img)[None, None]
        mask = torch.from_numpy(mask)[None, None].float()
        img = F.interpolate(img, scale_factor=self.scale, mode='bilinear', align_corners=False)[0]
        mask = F.interpolate(mask, scale_factor=self.scale, mode='nearest')[0, 0]
        return (img - self.mean) / self.std, mask.long()

    def __getitem__(self, idx):
        img, mask = self.preprocess(*self.items[idx])
        if self.augment:
            if random.random() < 0.5:
                img, mask = img.flip(-1), mask.flip(-1)
            if random.random() < 0.5:
                img, mask = img.flip(-2), mask.flip(-2)
            k = random.randint(0, 3)
            img, mask = torch.rot90(img, k, (-2, -1)), torch.rot90(mask, k, (-2, -1))
        return {'image': img.contiguous(), 'mask': mask.contiguous()}


class DoubleConv(nn.Module):
    """(convolution => [BN] => ReLU) * 2"""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=12):
        super().__init__()
        w = width
        self.inc, self.down1, self.down2 = DoubleConv(n_channels, w), DoubleConv(w, 2 * w), DoubleConv(2 * w, 4 * w)
        self.up1, self.up2 = Up(4 * w, 2 * w), Up(2 * w, w)
        self.outc = nn.Conv2d(w, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.up2(self.up1(x3, x2), x1)
        logits = self.outc(x)
        return logits


def one_hot(mask, n_classes):
    """class indices with void -> (B, C, H, W) targets and (B, 1, H, W) weights of the pixels that count"""
    valid = (mask != VOID)
    target = F.one_hot(mask * valid, n_classes).permute(0, 3, 1, 2).float()
    return target, valid.unsqueeze(1).float()


def dice_coeff(probs, target, valid, epsilon=1.0):
    inter = (probs * target * valid).sum(dim=(0, 2, 3))
    sets = ((probs + target) * valid).sum(dim=(0, 2, 3))
    return ((2 * inter + epsilon) / (sets + epsilon)).mean()


def seg_loss(logits, mask, n_classes):
    target, valid = one_hot(mask, n_classes)
    bce = F.binary_cross_entropy_with_logits(logits, target, reduction='none')
    bce = (bce * valid).sum() / (valid.sum() * n_classes)
    return bce + (1 - dice_coeff(torch.sigmoid(logits), target, valid))


@torch.inference_mode()
def evaluate(net, dataloader, device, n_classes):
    net.eval()
    inter, union = torch.zeros(n_classes), torch.zeros(n_classes)
    for batch in dataloader:
        image, mask = batch['image'].to(device), batch['mask'].to(device)
        target, valid = one_hot(mask, n_classes)
        pred = (torch.sigmoid(net(image)) > 0.5).float()
        inter += (pred * target * valid).sum(dim=(0, 2, 3))
        union += (((pred + target) > 0).float() * valid).sum(dim=(0, 2, 3))
    net.train()
    return inter / union.clamp(min=1)


def train_model(model, device, args):
    train_set = CellDataset(args.n_train, seed=1, augment=True)
    val_set = CellDataset(args.n_val, seed=2)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=args.batch_size, drop_last=True)
    val_loader = DataLoader(val_set, shuffle=False, batch_size=50)

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate, weight_decay=1e-4)
    max_iter = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda it: max(1 - it / max_iter, 0) ** 0.9)
    dir_checkpoint, best_miou = Path(tempfile.mkdtemp()), -1.0
    for epoch in range(1, args.epochs + 1):
        model.train()
        epoch_loss = 0
        with tqdm(total=len(train_set), desc=f'Epoch {epoch}/{args.epochs}', unit='img', disable=args.quiet) as pbar:
            for batch in train_loader:
                images, true_masks = batch['image'].to(device), batch['mask'].to(device)
                loss = seg_loss(model(images), true_masks, model.outc.out_channels)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                pbar.update(images.shape[0])
                epoch_loss += loss.item()
        iou = evaluate(model, val_loader, device, model.outc.out_channels)
        by_class = ', '.join(f'{n} {v:.3f}' for n, v in zip(CLASS_NAMES, iou.tolist()))
        logging.info(f'epoch {epoch} loss {epoch_loss / len(train_loader):.4f} mIoU {iou.mean():.4f} ({by_class})')
        if iou.mean() > best_miou:
            best_miou = iou.mean().item()
            torch.save(model.state_dict(), dir_checkpoint / 'best.pth')
    model.load_state_dict(torch.load(os.path.join(dir_checkpoint, 'best.pth')))
    test_iou = evaluate(model, DataLoader(CellDataset(150, seed=3), batch_size=50), device, model.outc.out_channels)
    logging.info(f'best val mIoU {best_miou:.4f}, test IoU by class {[round(v, 3) for v in test_iou.tolist()]} mIoU {test_iou.mean():.4f}')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    parser.add_argument('--epochs', '-e', type=int, default=9)
    parser.add_argument('--batch-size', '-b', type=int, default=16)
    parser.add_argument('--learning-rate', '-l', type=float, default=4e-3)
    parser.add_argument('--n-train', type=int, default=240)
    parser.add_argument('--n-val', type=int, default=100)
    parser.add_argument('--quiet', action='store_true')
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    torch.manual_seed(0)
    random.seed(0)
    train_model(UNet(n_channels=1, n_classes=len(CLASS_NAMES)), torch.device('cpu'), args)
