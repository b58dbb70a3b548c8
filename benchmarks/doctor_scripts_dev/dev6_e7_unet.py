import argparse
import logging

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset


class BlobDataset(Dataset):
    def __init__(self, n, seed, size=40, augment=False):
        rng = np.random.default_rng(seed)
        self.images = np.zeros((n, size, size), np.uint8)
        self.masks = np.zeros((n, size, size), np.uint8)
        yy, xx = np.mgrid[:size, :size]
        for i in range(n):
            img = rng.normal(90, 22, (size, size)) + 25 * xx / size
            for _ in range(rng.integers(1, 4)):
                cy, cx = rng.uniform(5, size - 5, 2)
                a, b = rng.uniform(3, 8, 2)
                th = rng.uniform(0, np.pi)
                u = (xx - cx) * np.cos(th) + (yy - cy) * np.sin(th)
                v = -(xx - cx) * np.sin(th) + (yy - cy) * np.cos(th)
                m = (u / a) ** 2 + (v / b) ** 2 <= 1
                img[m] += rng.uniform(35, 70)
                self.masks[i][m] = 255
            for _ in range(3):
                r = rng.integers(0, size)
                img[r] += 40
            self.images[i] = np.clip(img, 0, 255)
        self.augment = augment

    def __len__(self):
        return len(self.images)

    @staticmethod
    def preprocess(arr, is_mask):
        if is_mask:
            return arr.astype(np.float32) / 255.0
        return ((arr.astype(np.float32) / 255.0) - 0.42) / 0.13

    def __getitem__(self, idx):
        img = self.preprocess(self.images[idx], is_mask=False)
        mask = self.preprocess(self.masks[idx], is_mask=True)
        if self.augment:
            if np.random.rand() < 0.5:
                img = img[:, ::-1]
                mask = mask[:, ::-1]
            if np.random.rand() < 0.5:
                img = img[::-1]
                mask = mask[::-1]
        return {
            'image': torch.from_numpy(img.copy()).unsqueeze(0),
            'mask': torch.from_numpy(mask.copy()).unsqueeze(0),
        }


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
    def __init__(self, n_channels=1, n_classes=1, base=8):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, base)
        self.down1 = DoubleConv(base, base * 2)
        self.down2 = DoubleConv(base * 2, base * 4)
        self.up1 = nn.ConvTranspose2d(base * 4, base * 2, 2, stride=2)
        self.conv1 = DoubleConv(base * 4, base * 2)
        self.up2 = nn.ConvTranspose2d(base * 2, base, 2, stride=2)
        self.conv2 = DoubleConv(base * 2, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        logits = self.outc(x)
        return logits


def dice_coeff(input, target, epsilon=1e-6):
    sum_dim = (-1, -2)
    inter = 2 * (input * target).sum(dim=sum_dim)
    sets_sum = input.sum(dim=sum_dim) + target.sum(dim=sum_dim)
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def dice_loss(input, target):
    return 1 - dice_coeff(input, target)


@torch.inference_mode()
def evaluate(net, dataloader):
    net.eval()
    dice_score, n = 0.0, 0
    for batch in dataloader:
        image, mask_true = batch['image'], batch['mask']
        mask_pred = net(image)
        mask_pred = (torch.sigmoid(mask_pred) > 0.5).float()
        dice_score += dice_coeff(mask_pred, (mask_true > 0.5).float()).item() * len(image)
        n += len(image)
    net.train()
    return dice_score / n


def train_model(model, epochs, batch_size, learning_rate, gradient_clipping=1.0, amp=True):
    train_set = BlobDataset(400, seed=5, augment=True)
    val_set = BlobDataset(100, seed=6)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=batch_size)
    val_loader = DataLoader(val_set, shuffle=False, batch_size=50)

    optimizer = optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=1e-6)
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)
    grad_scaler = torch.amp.GradScaler('cpu', enabled=amp)
    criterion = nn.BCEWithLogitsLoss()

    for epoch in range(1, epochs + 1):
        model.train()
        epoch_loss = 0
        for batch in train_loader:
            images, true_masks = batch['image'], batch['mask']
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            loss += dice_loss(torch.sigmoid(masks_pred), true_masks)

            optimizer.zero_grad(set_to_none=True)
            grad_scaler.scale(loss).backward()
            grad_scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), gradient_clipping)
            grad_scaler.step(optimizer)
            grad_scaler.update()
            epoch_loss += loss.item()

        val_score = evaluate(model, val_loader)
        scheduler.step()
        logging.info(f'Epoch {epoch}/{epochs} loss {epoch_loss / len(train_loader):.4f} Dice {val_score:.4f}')
    return val_score


def get_args():
    parser = argparse.ArgumentParser(description='Train the UNet on images and target masks')
    parser.add_argument('--epochs', '-e', metavar='E', type=int, default=6)
    parser.add_argument('--batch-size', '-b', dest='batch_size', metavar='B', type=int, default=8)
    parser.add_argument('--learning-rate', '-l', metavar='LR', type=float, default=0.1, dest='lr')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


if __name__ == '__main__':
    args = get_args()
    logging.basicConfig(level=logging.INFO, format='%(levelname)s: %(message)s')
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    model = UNet(n_channels=1, n_classes=1)
    score = train_model(model, args.epochs, args.batch_size, args.lr)
    print(f'FINAL dice {score:.4f}')
