"""Train a small U-Net on the shapes data: cross entropy plus soft Dice, best checkpoint by validation Dice.

    python b01_unet_dice.py --epochs 7 --lr 2e-3
"""

import argparse
import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")
GRAY_STEP = 85  # the annotation tool paints classes 0, 1, 2, 3 as gray levels 0, 85, 170, 255


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--dice-weight", type=float, default=1.0)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


class SegmentationDataset(Dataset):
    def __init__(self, images, masks, augment=False):
        self.images, self.masks, self.augment = images, masks, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        mask = (self.masks[index] // GRAY_STEP).long()
        if self.augment:
            if random.random() < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if random.random() < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
            image = (image + random.uniform(-0.05, 0.05)).clamp(0, 1)
        return (image - 0.5) / 0.25, mask


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


class UNet(nn.Module):
    def __init__(self, in_channels=3, num_classes=len(CLASSES), features=(16, 32)):
        super().__init__()
        widths = (in_channels, *features)
        self.downs = nn.ModuleList([DoubleConv(a, b) for a, b in zip(widths[:-1], widths[1:])])
        self.pool = nn.MaxPool2d(2)
        self.bottleneck = DoubleConv(features[-1], 2 * features[-1])
        self.ups = nn.ModuleList([nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(features)])
        self.decoders = nn.ModuleList([DoubleConv(2 * w, w) for w in reversed(features)])
        self.head = nn.Conv2d(features[0], num_classes, 1)

    def forward(self, x):
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = self.pool(x)
        x = self.bottleneck(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips)):
            x = decoder(torch.cat([skip, up(x)], dim=1))
        return self.head(x)


def dice_loss(logits, target, smooth=1.0):
    probs = logits.softmax(dim=1)
    onehot = F.one_hot(target, len(CLASSES)).permute(0, 3, 1, 2).float()
    intersection = (probs * onehot).sum(dim=(0, 2, 3))
    cardinality = (probs + onehot).sum(dim=(0, 2, 3))
    dice = (2 * intersection + smooth) / (cardinality + smooth)
    return 1 - dice.mean()


def train_one_epoch(model, loader, optimizer, args):
    model.train()
    total = 0.0
    for images, masks in loader:
        optimizer.zero_grad()
        logits = model(images)
        loss = F.cross_entropy(logits, masks) + args.dice_weight * dice_loss(logits, masks)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
    return total / len(loader.dataset)


@torch.no_grad()
def evaluate(model, loader):
    """Dice of each class over all pixels of the set."""
    model.eval()
    intersection, cardinality = torch.zeros(len(CLASSES)), torch.zeros(len(CLASSES))
    for images, masks in loader:
        predicted = model(images).argmax(dim=1)
        for c in range(len(CLASSES)):
            intersection[c] += ((predicted == c) & (masks == c)).sum()
            cardinality[c] += (predicted == c).sum() + (masks == c).sum()
    return 2 * intersection / cardinality.clamp(min=1)


def main():
    args = parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    shapes, held_out = Shapes(train=True, count=args.images, size=args.size), Shapes(train=False, size=args.size)
    masks = [(mask * GRAY_STEP).to(torch.uint8) for mask in shapes.masks]
    test_masks = [(mask * GRAY_STEP).to(torch.uint8) for mask in held_out.masks]
    cut = int(0.8 * args.images)
    train_set = SegmentationDataset(shapes.images[:cut], masks[:cut], augment=True)
    valid_set = SegmentationDataset(shapes.images[cut:], masks[cut:])
    test_set = SegmentationDataset(held_out.images, test_masks)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, batch_size=32)
    test_loader = DataLoader(test_set, batch_size=32)

    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    best_dice, best_state = -1.0, None
    for epoch in range(args.epochs):
        loss = train_one_epoch(model, train_loader, optimizer, args)
        scheduler.step()
        dice = evaluate(model, valid_loader)[1:].mean().item()
        if dice > best_dice:
            best_dice, best_state = dice, copy.deepcopy(model.state_dict())
        print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  valid dice {dice:.4f}  best {best_dice:.4f}")

    model.load_state_dict(best_state)
    scores = evaluate(model, test_loader)
    print("test dice  " + "  ".join(f"{name} {score:.4f}" for name, score in zip(CLASSES, scores.tolist())))
    print(f"test mean foreground dice {scores[1:].mean():.4f}")


if __name__ == "__main__":
    main()
