"""Train a small U-Net on colored shapes: background, square, disc, cross."""

import argparse
import logging
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import optim
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes


class SegmentationDataset(Dataset):
    def __init__(self, base, ids, augment=False):
        self.base, self.ids, self.augment = base, ids, augment

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        idx = self.ids[i]
        img, mask = (self.base.images[idx] - 0.5) / 0.25, self.base.masks[idx]
        if self.augment:
            if random.random() < 0.5:
                img = torch.flip(img, dims=[2])
                mask = torch.flip(mask, dims=[1])
            if random.random() < 0.5:
                img = torch.flip(img, dims=[1])
                mask = torch.flip(mask, dims=[0])
        return {"image": img.contiguous(), "mask": mask.contiguous()}


class DoubleConv(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        layers = []
        for channels in (in_channels, out_channels):
            conv = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        self.double_conv = nn.Sequential(*layers)

    def forward(self, x):
        return self.double_conv(x)


class Up(nn.Module):
    def __init__(self, in_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, in_channels // 2, kernel_size=2, stride=2)
        self.conv = DoubleConv(in_channels, out_channels)

    def forward(self, x1, x2):
        return self.conv(torch.cat([x2, self.up(x1)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=12):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, width)
        self.down1 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(width, width * 2))
        self.down2 = nn.Sequential(nn.MaxPool2d(2), DoubleConv(width * 2, width * 4))
        self.up1 = Up(width * 4, width * 2)
        self.up2 = Up(width * 2, width)
        self.outc = nn.Conv2d(width, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(x1)
        x3 = self.down2(x2)
        return self.outc(self.up2(self.up1(x3, x2), x1))


def dice_coeff(pred, target, epsilon=1e-6):
    inter = 2 * (pred * target).sum(dim=(0, 2, 3))
    sets_sum = pred.sum(dim=(0, 2, 3)) + target.sum(dim=(0, 2, 3))
    return ((inter + epsilon) / (sets_sum + epsilon)).mean()


@torch.inference_mode()
def evaluate(net, dataloader, device):
    net.eval()
    n = net.n_classes
    confusion = torch.zeros(n, n, dtype=torch.long)
    for batch in dataloader:
        image, mask_true = batch["image"].to(device), batch["mask"].to(device)
        mask_pred = net(image).argmax(dim=1)
        index = (mask_true * n + mask_pred).flatten().cpu()
        confusion += torch.bincount(index, minlength=n * n).reshape(n, n)
    net.train()
    hits = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return (hits / union.clamp(min=1))[1:].mean().item()


def train_model(model, device, args):
    base = Shapes(train=True, count=args.count, size=24)
    ids = torch.randperm(len(base)).tolist()
    train_set = SegmentationDataset(base, ids[args.val_count :], augment=True)
    val_set = SegmentationDataset(base, ids[: args.val_count])
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size, shuffle=False)

    optimizer = optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-4)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.3, patience=2)
    criterion = nn.CrossEntropyLoss()
    best_score, best_state = -1.0, None

    for epoch in range(1, args.epochs + 1):
        model.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, true_masks = batch["image"].to(device), batch["mask"].to(device)
            masks_pred = model(images)
            loss = criterion(masks_pred, true_masks)
            one_hot = F.one_hot(true_masks, model.n_classes).permute(0, 3, 1, 2).float()
            loss = loss + 1 - dice_coeff(F.softmax(masks_pred, dim=1), one_hot)

            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            epoch_loss += loss.item() * images.size(0)

        val_score = evaluate(model, val_loader, device)
        scheduler.step(val_score)
        if val_score > best_score:
            best_score = val_score
            best_state = {k: v.detach().clone() for k, v in model.state_dict().items()}
        logging.info(f"epoch {epoch}: loss {epoch_loss / len(train_set):.4f}, mean IoU {val_score:.4f}")

    model.load_state_dict(best_state)
    logging.info(f"best mean IoU {evaluate(model, val_loader, device):.4f}")


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=6)
    parser.add_argument("--batch-size", "-b", type=int, default=16)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--val-count", type=int, default=120)
    return parser.parse_args()


def main():
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    random.seed(0)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = UNet(n_channels=3, n_classes=4).to(device)
    train_model(model, device, args)


if __name__ == "__main__":
    main()
