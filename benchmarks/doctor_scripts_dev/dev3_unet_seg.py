"""U-Net segmentation of generated cell images (three classes), after milesial/Pytorch-UNet."""
import argparse
import logging
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset, random_split


class CellDataset(Dataset):
    """Images with discs (class 1) and rings (class 2) over a noisy background (class 0)."""

    def __init__(self, n, size=32, seed=0):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:size, :size]
        self.images = rng.normal(0.3, 0.1, (n, size, size)).astype(np.float32)
        self.masks = np.zeros((n, size, size), dtype=np.int64)
        for i in range(n):
            for _ in range(rng.integers(2, 5)):
                cy, cx, r = rng.uniform(5, size - 5), rng.uniform(5, size - 5), rng.uniform(3, 6)
                d = np.hypot(yy - cy, xx - cx)
                kind = rng.integers(1, 3)
                area = d < r if kind == 1 else (d < r) & (d > r - 2)
                self.masks[i][area] = kind
                self.images[i][area] = rng.uniform(0.55, 0.9) + rng.normal(0, 0.08, area.sum())

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        img, mask = self.images[idx], self.masks[idx]
        return {"image": torch.from_numpy(img.copy()).unsqueeze(0), "mask": torch.from_numpy(mask.copy())}


class AugmentedSubset(Dataset):
    def __init__(self, subset):
        self.subset = subset

    def __len__(self):
        return len(self.subset)

    def __getitem__(self, idx):
        sample = self.subset[idx]
        image, mask = sample["image"], sample["mask"]
        if torch.rand(1).item() < 0.5:
            image = image.flip(-1)
            mask = mask.flip(-1)
        return {"image": image, "mask": mask}


class DoubleConv(nn.Module):
    def __init__(self, cin, cout):
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(cin, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True),
            nn.Conv2d(cout, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

    def forward(self, x):
        return self.double_conv(x)


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=8):
        super().__init__()
        self.n_channels, self.n_classes = n_channels, n_classes
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = DoubleConv(6 * width, 2 * width)
        self.up2 = DoubleConv(3 * width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        y = F.interpolate(x3, scale_factor=2, mode="bilinear", align_corners=True)
        y = self.up1(torch.cat([x2, y], dim=1))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=True)
        y = self.up2(torch.cat([x1, y], dim=1))
        return self.outc(y)


def dice_coeff(input, target, epsilon=1e-6):
    inter = 2 * (input * target).sum(dim=(-1, -2))
    sets_sum = input.sum(dim=(-1, -2)) + target.sum(dim=(-1, -2))
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


def dice_loss(input, target):
    return 1 - dice_coeff(input.flatten(0, 1), target.flatten(0, 1))


@torch.inference_mode()
def evaluate(net, dataloader, device):
    net.eval()
    inter, total = torch.zeros(net.n_classes), torch.zeros(net.n_classes)
    for batch in dataloader:
        image, mask_true = batch["image"].to(device), batch["mask"].to(device)
        mask_pred = net(image).argmax(dim=1)
        for c in range(net.n_classes):
            inter[c] += 2 * ((mask_pred == c) & (mask_true == c)).sum()
            total[c] += (mask_pred == c).sum() + (mask_true == c).sum()
    net.train()
    return (inter[1:] / total[1:].clamp(min=1)).mean().item()


def train_model(model, device, args):
    dataset = CellDataset(400)
    n_val = int(len(dataset) * args.val_percent)
    train_set, val_set = random_split(dataset, [len(dataset) - n_val, n_val], generator=torch.Generator().manual_seed(0))
    train_loader = DataLoader(AugmentedSubset(train_set), shuffle=True, batch_size=args.batch_size)
    val_loader = DataLoader(val_set, shuffle=False, batch_size=40)
    optimizer = optim.RMSprop(model.parameters(), lr=args.lr, weight_decay=1e-8, momentum=0.9)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.2, patience=0)
    grad_scaler = torch.amp.GradScaler(device.type, enabled=args.amp)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, args.epochs + 1):
        model.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, true_masks = batch["image"].to(device), batch["mask"].to(device)
            assert images.shape[1] == model.n_channels
            with torch.autocast(device.type, enabled=args.amp):
                masks_pred = model(images)
                loss = criterion(masks_pred, true_masks)
                loss += dice_loss(
                    F.softmax(masks_pred, dim=1).float(),
                    F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).float())
            optimizer.zero_grad(set_to_none=True)
            grad_scaler.scale(loss).backward()
            grad_scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.gradient_clipping)
            grad_scaler.step(optimizer)
            grad_scaler.update()
            epoch_loss += loss.item()
        val_score = evaluate(model, val_loader, device)
        scheduler.step(val_score)
        logging.info(f"Epoch {epoch}: loss {epoch_loss / len(train_loader):.4f} Validation Dice score: {val_score:.4f}")
        torch.save(model.state_dict(), os.path.join(tempfile.gettempdir(), "unet_checkpoint.pth"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=10)
    parser.add_argument("--batch-size", "-b", type=int, default=8)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--val-percent", type=float, default=0.2)
    parser.add_argument("--gradient-clipping", type=float, default=1.0)
    parser.add_argument("--amp", action="store_true", default=False)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = UNet(n_channels=1, n_classes=3).to(device)
    train_model(model, device, args)
