"""Train a small U-Net on drawn shapes (circles and hatched squares on textured ground)."""
import argparse
import logging

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASS_NAMES = ["background", "circle", "square"]
# grey value in the annotation -> class index; 255 marks the unlabelled outline
PALETTE = {0: 0, 85: 1, 170: 2, 255: 255}
MEAN = np.array([0.47, 0.47, 0.47], dtype=np.float32)
STD = np.array([0.22, 0.22, 0.22], dtype=np.float32)


def draw_scene(rng, size):
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    ground = rng.uniform(0.2, 0.7, 3)
    wave = 0.08 * np.sin(xx * rng.uniform(0.1, 0.6) + yy * rng.uniform(0.1, 0.6))
    image = ground[None, None] + wave[..., None]
    mask = np.zeros((size, size), dtype=np.uint8)
    for _ in range(rng.integers(1, 3)):
        cy, cx = rng.uniform(7, size - 7, 2)
        radius = rng.uniform(6, 10)
        if rng.random() < 0.5:
            dist, value = np.hypot(yy - cy, xx - cx) - radius, 85
        else:
            dist, value = np.maximum(abs(yy - cy), abs(xx - cx)) - radius * 0.9, 170
        colour = np.clip(ground + rng.choice([-1, 1], 3) * rng.uniform(0.15, 0.35, 3), 0, 1)
        fill = np.broadcast_to(colour, image.shape)
        if value == 170:  # squares are hatched
            fill = fill + 0.12 * np.where((xx + yy) // 3 % 2 == 0, 1, -1)[..., None]
        image = np.where((dist <= 0)[..., None], fill, image)
        mask[dist <= 0] = value
        mask[abs(dist) < 0.7] = 255
    image = image + rng.normal(0, 0.05, image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), mask


class ShapesDataset(Dataset):
    def __init__(self, n, size, seed, train):
        rng = np.random.default_rng(seed)
        self.items = [draw_scene(rng, size) for _ in range(n)]
        self.train = train
        self.rng = np.random.default_rng(seed + 1)

    def __len__(self):
        return len(self.items)

    @staticmethod
    def preprocess(img, mask):
        img = (img.astype(np.float32) / 255.0 - MEAN) / STD
        img = img.transpose(2, 0, 1)
        target = np.zeros(mask.shape, dtype=np.int64)
        for value, index in PALETTE.items():
            target[mask == value] = index
        return img, target

    def __getitem__(self, idx):
        img, mask = self.preprocess(*self.items[idx])
        if self.train:
            if self.rng.random() < 0.5:
                img = img[:, :, ::-1]
                mask = mask[:, ::-1]
            if self.rng.random() < 0.5:
                img, mask = img[:, ::-1, :], mask[::-1, :]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(img)),
            "mask": torch.from_numpy(np.ascontiguousarray(mask)),
        }


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


class Down(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(in_channels, out_channels))

    def forward(self, x):
        return self.maxpool_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        x1 = self.up(x1)
        return self.conv(torch.cat([x2, x1], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, base):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, base)
        self.down1 = Down(base, base * 2)
        self.down2 = Down(base * 2, base * 4)
        self.up1 = Up(base * 4, base * 2)
        self.up2 = Up(base * 2, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        x = self.up1(x3, x2)
        x = self.up2(x, x1)
        return self.outc(x)


def class_weights(dataset, n_classes):
    counts = np.zeros(n_classes)
    for _, mask in dataset.items:
        for value, index in PALETTE.items():
            if index < n_classes:
                counts[index] += (mask == value).sum()
    freq = counts / counts.sum()
    weights = 1.0 / np.sqrt(freq)
    return torch.tensor(weights / weights.mean(), dtype=torch.float32)


def fast_hist(label, pred, n):
    k = (label >= 0) & (label < n)
    return torch.bincount(n * label[k] + pred[k], minlength=n * n).view(n, n)


@torch.no_grad()
def evaluate(net, loader):
    net.eval()
    hist = torch.zeros(net.n_classes, net.n_classes, dtype=torch.long)
    for batch in loader:
        pred = net(batch["image"]).argmax(dim=1)
        hist += fast_hist(batch["mask"].flatten(), pred.flatten(), net.n_classes)
    net.train()
    hist = hist.double()
    iou = hist.diag() / (hist.sum(1) + hist.sum(0) - hist.diag())
    return iou


def train_model(net, args):
    train_set = ShapesDataset(args.n_train, args.size, seed=args.seed, train=True)
    val_set = ShapesDataset(args.n_val, args.size, seed=args.seed + 1000, train=False)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size, shuffle=False)

    optimizer = torch.optim.AdamW(net.parameters(), lr=args.lr, weight_decay=1e-4)
    total = args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total)
    weight = class_weights(train_set, net.n_classes)

    for epoch in range(1, args.epochs + 1):
        net.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, true_masks = batch["image"], batch["mask"]
            masks_pred = net(images)
            loss = F.cross_entropy(masks_pred, true_masks, weight=weight, ignore_index=args.ignore_index)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            epoch_loss += loss.item()
        iou = evaluate(net, val_loader)
        logging.info("epoch %d loss %.4f val mIoU %.4f", epoch, epoch_loss / len(train_loader), iou.mean())
    for name, value in zip(CLASS_NAMES, iou.tolist()):
        print(f"  IoU {name}: {value:.4f}")
    print(f"val mIoU: {iou.mean():.4f}")


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=6)
    parser.add_argument("--batch-size", "-b", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--size", type=int, default=40)
    parser.add_argument("--n-train", type=int, default=320)
    parser.add_argument("--n-val", type=int, default=100)
    parser.add_argument("--ignore-index", type=int, default=255)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    torch.manual_seed(args.seed)
    net = UNet(n_channels=3, n_classes=len(CLASS_NAMES), base=10)
    train_model(net, args)


if __name__ == "__main__":
    main()
