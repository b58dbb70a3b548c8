"""U-Net on colored shapes: background, square, disc, cross. Cross entropy plus soft Dice."""
import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")


class ShapeMasks(Dataset):
    def __init__(self, train, count, grain=0.03):
        shapes = Shapes(train=train, count=count, size=24)
        noise = torch.Generator().manual_seed(int(train))
        self.images = [im + grain * torch.randn(im.shape, generator=noise) for im in shapes.images]
        self.masks = shapes.masks
        self.augment = train

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image, mask = self.images[i], self.masks[i]
        if self.augment:
            if random.random() < 0.5:
                image = image.flip(-1)
                mask = mask.flip(-1)
            if random.random() < 0.5:
                image = image.flip(-2)
                mask = mask.flip(-2)
        return (image - 0.5) / 0.2, mask


def double_conv(c_in, c_out):
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
        nn.Conv2d(c_out, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU(inplace=True),
    )


class UNet(nn.Module):
    def __init__(self, n_classes, widths=(8, 16, 32)):
        super().__init__()
        self.down = nn.ModuleList()
        c = 3
        for w in widths:
            self.down.append(double_conv(c, w))
            c = w
        pairs = list(zip(widths[::-1], widths[-2::-1]))
        self.grow = nn.ModuleList([nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs])
        self.up = nn.ModuleList([double_conv(2 * b, b) for a, b in pairs])
        self.final = nn.Conv2d(widths[0], n_classes, 1)

    def forward(self, x):
        skips = []
        for i, block in enumerate(self.down):
            x = block(x if i == 0 else F.max_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for grow, block in zip(self.grow, self.up):
            x = block(torch.cat([grow(x), skips.pop()], dim=1))
        return self.final(x)


def soft_dice(logits, mask, eps=1.0):
    """1 - Dice, mean over the classes."""
    probs = F.softmax(logits, dim=1)
    truth = F.one_hot(mask, probs.shape[1]).permute(0, 3, 1, 2).float()
    overlap = (probs * truth).sum((0, 2, 3))
    size = probs.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    return 1 - ((2 * overlap + eps) / (size + eps)).mean()


def class_frequencies(dataset):
    counts = torch.stack([torch.bincount(m.flatten(), minlength=len(CLASSES)) for m in dataset.masks]).sum(0)
    return counts / counts.sum()


@torch.no_grad()
def mean_iou(model, loader):
    model.eval()
    k = len(CLASSES)
    confusion = torch.zeros(k, k)
    for image, mask in loader:
        pred = model(image).argmax(1)
        confusion += torch.bincount((mask * k + pred).flatten(), minlength=k * k).view(k, k)
    inter = confusion.diag()
    return inter / (confusion.sum(0) + confusion.sum(1) - inter).clamp(min=1)


def parse():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=12)
    p.add_argument("--batch", type=int, default=20)
    p.add_argument("--lr", type=float, default=4e-3)
    p.add_argument("--dice", type=float, default=0.2, help="share of the Dice term")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    opt = parse()
    torch.manual_seed(opt.seed)
    random.seed(opt.seed)
    train_set, val_set = ShapeMasks(True, 600), ShapeMasks(False, 150)
    train_loader = DataLoader(train_set, opt.batch, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 50)

    freq = class_frequencies(train_set)
    weight = 1 / freq.sqrt()
    weight = weight / weight.sum() * len(CLASSES)
    print("frequency", [f"{f:.3f}" for f in freq.tolist()], "weight", [f"{w:.2f}" for w in weight.tolist()])

    model = UNet(len(CLASSES))
    ce = nn.CrossEntropyLoss(weight=weight)
    optimizer = torch.optim.AdamW(model.parameters(), lr=opt.lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=opt.epochs * len(train_loader), power=0.9)

    for epoch in range(opt.epochs):
        model.train()
        seen = 0.0
        for image, mask in train_loader:
            logits = model(image)
            loss = (1 - opt.dice) * ce(logits, mask) + opt.dice * soft_dice(logits, mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            seen += loss.item()
        iou = mean_iou(model, val_loader)
        print(f"epoch {epoch + 1}: loss {seen / len(train_loader):.3f}  mIoU {iou.mean():.3f}  "
              + "  ".join(f"{n} {v:.2f}" for n, v in zip(CLASSES, iou.tolist())))


if __name__ == "__main__":
    main()
