"""Segmentation of squares, discs and crosses with a small U-Net: cross entropy and Dice, OneCycle, test-time flips."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("ground", "square", "disc", "cross")


class ShapeMasks(Dataset):
    def __init__(self, train, count, augment=False):
        shapes = Shapes(train=train, count=count)
        self.images = (torch.stack(shapes.images) - 0.5) / 0.2
        self.masks = torch.stack(shapes.masks)
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-2), mask.flip(-2)
        return image, mask


def double_conv(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, width=12, classes=len(CLASSES)):
        super().__init__()
        self.down1 = double_conv(3, width)
        self.down2 = double_conv(width, 2 * width)
        self.bottom = double_conv(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.merge2 = double_conv(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.merge1 = double_conv(2 * width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x):
        fine = self.down1(x)
        middle = self.down2(F.max_pool2d(fine, 2))
        coarse = self.bottom(F.max_pool2d(middle, 2))
        middle = self.merge2(torch.cat([self.up2(coarse), middle], 1))
        fine = self.merge1(torch.cat([self.up1(middle), fine], 1))
        return self.head(fine)


def dice_loss(logits, masks):
    probabilities = logits.softmax(1)
    truth = F.one_hot(masks, logits.shape[1]).permute(0, 3, 1, 2).float()
    overlap = (probabilities * truth).sum((0, 2, 3))
    areas = probabilities.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    dice = (2 * overlap + 1) / (areas + 1)
    return 1 - dice[1:].mean()


def train(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for images, masks in loader:
        logits = model(images)
        loss = criterion(logits, masks) + dice_loss(logits, masks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    return total / len(loader)


def predict(model, images, flips):
    probabilities = model(images).softmax(1)
    if flips:
        probabilities = probabilities + model(images.flip(-1)).softmax(1).flip(-1)
        probabilities = probabilities + model(images.flip(-2)).softmax(1).flip(-2)
    return probabilities.argmax(1)


@torch.no_grad()
def evaluate(model, loader, flips=False):
    model.eval()
    n = len(CLASSES)
    confusion = torch.zeros(n, n, dtype=torch.long)
    for images, masks in loader:
        predicted = predict(model, images, flips)
        confusion += torch.bincount((masks * n + predicted).flatten(), minlength=n * n).view(n, n)
    hits = confusion.diag().float()
    iou = hits / (confusion.sum(0) + confusion.sum(1) - hits)
    return iou, hits.sum() / confusion.sum()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=18)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--weight-decay", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)

    train_set = ShapeMasks(train=True, count=1500, augment=True)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(ShapeMasks(train=False, count=300), batch_size=100)

    model = UNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=args.lr, epochs=args.epochs, steps_per_epoch=len(train_loader)
    )
    for epoch in range(args.epochs):
        loss = train(model, train_loader, criterion, optimizer, scheduler)
        iou, pixels = evaluate(model, valid_loader)
        print(f"epoch {epoch + 1:2d}  loss {loss:.3f}  mean IoU {iou.mean():.3f}  pixels right {pixels:.3f}")
    iou, pixels = evaluate(model, valid_loader, flips=True)
    print("with flips:", "  ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou.tolist())))


if __name__ == "__main__":
    main()
