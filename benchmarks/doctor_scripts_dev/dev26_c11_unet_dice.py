import argparse
import logging
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

N_CLASSES = 4
CLASS_NAMES = ["background", "square", "disc", "cross"]


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
    def __init__(self, n_channels=3, n_classes=N_CLASSES, base=10):
        super().__init__()
        self.inc = DoubleConv(n_channels, base)
        self.down1 = DoubleConv(base, 2 * base)
        self.down2 = DoubleConv(2 * base, 4 * base)
        self.up1 = Up(4 * base, 2 * base)
        self.up2 = Up(2 * base, base)
        self.outc = nn.Conv2d(base, n_classes, kernel_size=1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        return self.outc(self.up2(self.up1(x3, x2), x1))


class SegmentationSet(Dataset):
    def __init__(self, train, count, size):
        shapes = Shapes(train=train, count=count, size=size)
        self.images, self.masks, self.augment = shapes.images, shapes.masks, train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = (self.images[i] - 0.5) / 0.2, self.masks[i]
        if self.augment:
            if random.random() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if random.random() < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return {"image": image, "mask": mask}


def dice_loss(logits, target, epsilon=1.0):
    """One minus the mean soft dice of the classes, over the whole batch."""
    probabilities = logits.softmax(dim=1)
    one_hot = F.one_hot(target, N_CLASSES).permute(0, 3, 1, 2).float()
    intersection = (probabilities * one_hot).sum(dim=(0, 2, 3))
    cardinality = probabilities.sum(dim=(0, 2, 3)) + one_hot.sum(dim=(0, 2, 3))
    return 1 - ((2 * intersection + epsilon) / (cardinality + epsilon)).mean()


@torch.inference_mode()
def evaluate(net, dataloader):
    net.eval()
    confusion = torch.zeros(N_CLASSES, N_CLASSES, dtype=torch.long)
    for batch in dataloader:
        prediction = net(batch["image"]).argmax(dim=1)
        index = batch["mask"].flatten() * N_CLASSES + prediction.flatten()
        confusion += torch.bincount(index, minlength=N_CLASSES**2).view(N_CLASSES, N_CLASSES)
    net.train()
    intersection = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - intersection
    return intersection / union.clamp(min=1)


def train_model(net, train_loader, val_loader, epochs, learning_rate, weight_decay=1e-5):
    optimizer = torch.optim.RMSprop(net.parameters(), lr=learning_rate, weight_decay=weight_decay, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=3, factor=0.3)
    criterion = nn.CrossEntropyLoss()
    for epoch in range(1, epochs + 1):
        net.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, true_masks = batch["image"], batch["mask"]
            masks_pred = net(images)
            loss = criterion(masks_pred, true_masks) + dice_loss(masks_pred, true_masks)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            epoch_loss += loss.item() * images.size(0)
        iou = evaluate(net, val_loader)
        scheduler.step(iou.mean().item())
        logging.info(
            f"epoch {epoch}: loss {epoch_loss / len(train_loader.dataset):.4f}, mean IoU {iou.mean():.4f}, "
            + ", ".join(f"{name} {value:.3f}" for name, value in zip(CLASS_NAMES, iou.tolist()))
        )


def get_args():
    parser = argparse.ArgumentParser(description="Train the UNet on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=14)
    parser.add_argument("--batch-size", "-b", dest="batch_size", type=int, default=16)
    parser.add_argument("--learning-rate", "-l", type=float, default=2e-4, dest="lr")
    parser.add_argument("--size", type=int, default=24)
    return parser.parse_args()


if __name__ == "__main__":
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    random.seed(0)
    torch.manual_seed(0)
    train_set = SegmentationSet(True, 900, args.size)
    val_set = SegmentationSet(False, 200, args.size)
    train_loader = DataLoader(train_set, shuffle=True, batch_size=args.batch_size)
    val_loader = DataLoader(val_set, shuffle=False, batch_size=50)
    net = UNet()
    logging.info(f"Network with {sum(p.numel() for p in net.parameters())} parameters")
    train_model(net, train_loader, val_loader, args.epochs, args.lr)
