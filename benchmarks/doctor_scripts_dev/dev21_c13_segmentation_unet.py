"""Semantic segmentation of shapes with a small U-Net: cross-entropy and soft Dice, mean IoU of the validation set."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ["ground", "square", "disc", "cross"]


class ShapeMasks(Dataset):
    def __init__(self, train, count, augment):
        shapes = Shapes(train=train, count=count)
        self.images, self.masks = shapes.images, shapes.masks
        self.augment = augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image, mask = self.images[index], self.masks[index]
        if self.augment:
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
            turns = int(torch.randint(0, 4, ()))
            image, mask = torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))
        return (image - 0.5) / 0.2, mask


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
    def __init__(self, classes, base=16):
        super().__init__()
        self.down1 = double_conv(3, base)
        self.down2 = double_conv(base, 2 * base)
        self.bottom = double_conv(2 * base, 4 * base)
        self.up2 = nn.ConvTranspose2d(4 * base, 2 * base, 2, stride=2)
        self.dec2 = double_conv(4 * base, 2 * base)
        self.up1 = nn.ConvTranspose2d(2 * base, base, 2, stride=2)
        self.dec1 = double_conv(2 * base, base)
        self.out = nn.Conv2d(base, classes, 1)

    def forward(self, x):
        d1 = self.down1(x)
        d2 = self.down2(F.max_pool2d(d1, 2))
        x = self.bottom(F.max_pool2d(d2, 2))
        x = self.dec2(torch.cat([self.up2(x), d2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), d1], dim=1))
        return self.out(x)


class CrossEntropyDice(nn.Module):
    def __init__(self, classes, smooth=1.0):
        super().__init__()
        self.classes, self.smooth = classes, smooth
        self.cross_entropy = nn.CrossEntropyLoss()

    def forward(self, logits, masks):
        probs = logits.softmax(dim=1)
        one_hot = F.one_hot(masks, self.classes).permute(0, 3, 1, 2).float()
        overlap = (probs * one_hot).sum(dim=(0, 2, 3))
        sizes = probs.sum(dim=(0, 2, 3)) + one_hot.sum(dim=(0, 2, 3))
        dice = (2 * overlap + self.smooth) / (sizes + self.smooth)
        return self.cross_entropy(logits, masks) + 1 - dice.mean()


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    n = len(CLASSES)
    confusion = torch.zeros(n * n, dtype=torch.long)
    for images, masks in loader:
        predicted = model(images).argmax(dim=1)
        confusion += torch.bincount((masks * n + predicted).flatten(), minlength=n * n)
    confusion = confusion.view(n, n).double()
    inter = confusion.diag()
    union = confusion.sum(0) + confusion.sum(1) - inter
    return inter / union, (inter.sum() / confusion.sum()).item()


def main():
    torch.manual_seed(4)
    train_loader = DataLoader(ShapeMasks(True, 1280, augment=True), batch_size=32, shuffle=True)
    val_loader = DataLoader(ShapeMasks(False, 240, augment=False), batch_size=60)
    model = UNet(len(CLASSES))
    criterion = CrossEntropyDice(len(CLASSES))
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=15 * len(train_loader), power=0.9)

    for epoch in range(15):
        model.train()
        total = 0.0
        for images, masks in train_loader:
            loss = criterion(model(images), masks)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            total += loss.item()
        iou, pixel_accuracy = evaluate(model, val_loader)
        listed = ", ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou.tolist()))
        print(
            f"epoch {epoch}: loss {total / len(train_loader):.3f}  mIoU {iou.mean():.3f} ({listed})  "
            f"pixels {pixel_accuracy:.3f}"
        )


if __name__ == "__main__":
    main()
