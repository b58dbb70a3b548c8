"""U-Net for masks of several classes: cross entropy with class weights plus soft Dice, images and masks in two folders."""

import argparse
import logging
import random
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from PIL import Image
from torch import optim
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

GRAYS = (0, 60, 120, 180)


def write_folder(root, train, count):
    (root / "imgs").mkdir(parents=True)
    (root / "masks").mkdir()
    shapes = Shapes(train=train, count=count, size=24)
    palette = torch.tensor(GRAYS, dtype=torch.uint8)
    for i, (image, mask) in enumerate(zip(shapes.images, shapes.masks)):
        pixels = (image.permute(1, 2, 0) * 255).to(torch.uint8).numpy()
        Image.fromarray(pixels).save(root / "imgs" / f"{i:04d}.png")
        Image.fromarray(palette[mask].numpy()).save(root / "masks" / f"{i:04d}.png")


class BasicDataset(Dataset):
    def __init__(self, root, augment=False):
        self.images = sorted((root / "imgs").glob("*.png"))
        self.masks = root / "masks"
        self.augment = augment
        seen = []
        for path in self.images:
            seen.extend(np.unique(np.asarray(Image.open(self.masks / path.name)))[::-1].tolist())
        self.mask_values = sorted(set(seen))
        logging.info(f"mask values of {root.name}: {self.mask_values}")

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        path = self.images[index]
        image = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1).float() / 255.0
        gray = np.array(Image.open(self.masks / path.name))
        mask = torch.zeros(gray.shape, dtype=torch.long)
        for i, value in enumerate(self.mask_values):
            mask[torch.from_numpy(gray == value)] = i
        if self.augment and random.random() < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return {"image": image, "mask": mask}


class DoubleConv(nn.Sequential):
    def __init__(self, inside, outside):
        super().__init__(
            nn.Conv2d(inside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    def __init__(self, n_channels, n_classes, width=8):
        super().__init__()
        self.n_classes = n_classes
        self.inc = DoubleConv(n_channels, width)
        self.down1 = DoubleConv(width, 2 * width)
        self.down2 = DoubleConv(2 * width, 4 * width)
        self.up1 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.conv1 = DoubleConv(4 * width, 2 * width)
        self.up2 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.conv2 = DoubleConv(2 * width, width)
        self.outc = nn.Conv2d(width, n_classes, 1)

    def forward(self, x):
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.conv1(torch.cat([x2, self.up1(x3)], dim=1))
        x = self.conv2(torch.cat([x1, self.up2(x)], dim=1))
        return self.outc(x)


def dice_coeff(inputs, targets, eps=1e-6):
    """Mean over the classes of the Dice coefficient; both are N x C x H x W."""
    axes = (0, 2, 3)
    inter = 2 * (inputs * targets).sum(axes)
    return ((inter + eps) / (inputs.sum(axes) + targets.sum(axes) + eps)).mean()


def one_hot(mask, classes):
    return F.one_hot(mask, classes).permute(0, 3, 1, 2).float()


def class_weights(dataset, classes):
    counts = torch.zeros(classes)
    for sample in dataset:
        counts += torch.bincount(sample["mask"].flatten(), minlength=classes)
    frequency = counts / counts.sum()
    weights = 1.0 / frequency.sqrt()
    return weights / weights.sum() * classes


@torch.inference_mode()
def evaluate(net, loader):
    net.eval()
    inter, total = torch.zeros(net.n_classes), torch.zeros(net.n_classes)
    for batch in loader:
        prediction = one_hot(net(batch["image"]).argmax(dim=1), net.n_classes)
        truth = one_hot(batch["mask"], net.n_classes)
        inter += 2 * (prediction * truth).sum((0, 2, 3))
        total += (prediction + truth).sum((0, 2, 3))
    net.train()
    return (inter / total)[1:].mean().item()


def train_model(net, train_set, val_set, args, checkpoints):
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=48)
    optimizer = optim.SGD(net.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-5)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=2, factor=0.3)
    scaler = torch.amp.GradScaler("cpu", enabled=True)
    weights = class_weights(train_set, net.n_classes)
    logging.info("class weights: " + ", ".join(f"{w:.2f}" for w in weights))
    criterion = nn.CrossEntropyLoss(weight=weights)
    for epoch in range(1, args.epochs + 1):
        net.train()
        epoch_loss = 0.0
        for batch in train_loader:
            images, masks = batch["image"], batch["mask"]
            output = net(images)
            loss = criterion(output, masks)
            loss = loss + 1 - dice_coeff(F.softmax(output, dim=1), one_hot(masks, net.n_classes))
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(net.parameters(), args.gradient_clipping)
            scaler.step(optimizer)
            scaler.update()
            epoch_loss += loss.item()
        score = evaluate(net, val_loader)
        scheduler.step(score)
        logging.info(
            f"epoch {epoch}: loss {epoch_loss / len(train_loader):.4f}, val Dice {score:.4f}, lr {optimizer.param_groups[0]['lr']:.2g}"
        )
        torch.save(net.state_dict(), checkpoints / f"checkpoint_epoch{epoch}.pth")
    return score


def get_args():
    parser = argparse.ArgumentParser(description="Train the U-Net on images and target masks")
    parser.add_argument("--epochs", "-e", type=int, default=12)
    parser.add_argument("--batch-size", "-b", type=int, default=16)
    parser.add_argument("--learning-rate", "-l", type=float, default=0.05, dest="lr")
    parser.add_argument("--gradient-clipping", type=float, default=1.0)
    parser.add_argument("--classes", "-c", type=int, default=4)
    return parser.parse_args()


if __name__ == "__main__":
    args = get_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s")
    torch.manual_seed(0)
    random.seed(0)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        write_folder(directory / "train", True, 400)
        write_folder(directory / "val", False, 120)
        net = UNet(n_channels=3, n_classes=args.classes)
        score = train_model(net, BasicDataset(directory / "train", augment=True), BasicDataset(directory / "val"), args, directory)
        logging.info(f"final validation Dice (without background): {score:.4f}")
