"""Semantic segmentation of shapes with a small U-Net, in the manner of milesial/Pytorch-UNet."""
import argparse
import copy
import logging

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["background", "square", "disc", "cross"]


class SegmentationDataset(Dataset):
    def __init__(self, train, count):
        source = Shapes(train=train, count=count)
        self.images, self.masks, self.augment = source.images, source.masks, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, idx):
        image, mask = (self.images[idx] - 0.5) / 0.25, self.masks[idx]
        if self.augment and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return {"image": image, "mask": mask}


class DoubleConv(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Up(nn.Module):
    def __init__(self, in_channels, skip_channels, out_channels):
        super().__init__()
        self.up = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.conv = DoubleConv(out_channels + skip_channels, out_channels)

    def forward(self, x, skip):
        return self.conv(torch.cat([skip, self.up(x)], dim=1))


class UNet(nn.Module):
    def __init__(self, n_channels=3, n_classes=4, width=12):
        super().__init__()
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = Up(4 * width, 2 * width, 2 * width)
        self.up2 = Up(2 * width, width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        return self.outc(self.up2(self.up1(x3, x2), x1))


@torch.inference_mode()
def evaluate(net, loader):
    net.eval()
    n = len(CLASSES)
    confusion = torch.zeros(n, n, dtype=torch.long)
    for batch in loader:
        prediction = net(batch["image"]).argmax(dim=1)
        index = batch["mask"].flatten() * n + prediction.flatten()
        confusion += torch.bincount(index, minlength=n * n).view(n, n)
    inter = confusion.diag().float()
    union = confusion.sum(0) + confusion.sum(1) - confusion.diag()
    return inter / union.clamp(min=1)


def train_model(net, train_loader, val_loader, epochs, learning_rate):
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=3, factor=0.5)
    criterion = nn.CrossEntropyLoss()
    best_score, best_state = -1.0, None
    for epoch in range(1, epochs + 1):
        net.train()
        epoch_loss, seen = 0.0, 0
        for batch in train_loader:
            images, true_masks = batch["image"], batch["mask"]
            masks_pred = net(images)
            loss = criterion(masks_pred, true_masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            epoch_loss += loss.item() * len(images)
            seen += len(images)
        ious = evaluate(net, val_loader)
        score = ious.mean().item()
        scheduler.step(score)
        details = " ".join(f"{name} {iou:.3f}" for name, iou in zip(CLASSES, ious.tolist()))
        logging.info(f"epoch {epoch}: loss {epoch_loss / seen:.4f}, mIoU {score:.4f} ({details})")
        if score > best_score:
            best_score, best_state = score, copy.deepcopy(net.state_dict())
    net.load_state_dict(best_state)
    return best_score


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=8)
    parser.add_argument("--batch-size", "-b", type=int, default=32)
    parser.add_argument("--learning-rate", "-l", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    torch.manual_seed(args.seed)
    train_loader = DataLoader(SegmentationDataset(True, 900), batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(SegmentationDataset(False, 200), batch_size=64)
    net = UNet(n_channels=3, n_classes=len(CLASSES))
    best = train_model(net, train_loader, val_loader, args.epochs, args.learning_rate)
    logging.info(f"best mIoU {best:.4f}")


if __name__ == "__main__":
    main()
