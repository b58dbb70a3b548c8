"""Two tasks, one network: a mask of the shape's kind for each pixel, and the box of the shape."""

import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")


class ShapesMultiTask(Dataset):
    def __init__(self, train):
        self.shapes = Shapes(train=train)
        self.train = train

    def __len__(self):
        return len(self.shapes)

    def __getitem__(self, index):
        image, _ = self.shapes[index]
        mask, box = self.shapes.masks[index], self.shapes.boxes[index]
        if self.train and torch.rand(()) < 0.5:
            left, top, right, bottom = box.tolist()
            image, mask = image.flip(-1), mask.flip(-1)
            box = torch.tensor([1 - right, top, 1 - left, bottom])
        return (image - 0.5) / 0.2, {"mask": mask, "box": box}


class ConvBlock(nn.Sequential):
    def __init__(self, i, o):
        super().__init__(
            nn.Conv2d(i, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
            nn.Conv2d(o, o, 3, padding=1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
        )


class SharedUNet(nn.Module):
    def __init__(self, width=12, classes=len(CLASSES)):
        super().__init__()
        self.down1 = ConvBlock(3, width)
        self.down2 = ConvBlock(width, 2 * width)
        self.bottom = ConvBlock(2 * width, 4 * width)
        self.up2 = ConvBlock(6 * width, 2 * width)
        self.up1 = ConvBlock(3 * width, width)
        self.mask_head = nn.Conv2d(width, classes, 1)
        self.box_head = nn.Sequential(
            nn.Flatten(), nn.Linear(4 * width * 16, 48), nn.ReLU(), nn.Linear(48, 4), nn.Sigmoid()
        )

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        d = self.up2(torch.cat([F.interpolate(c, scale_factor=2.0), b], dim=1))
        e = self.up1(torch.cat([F.interpolate(d, scale_factor=2.0), a], dim=1))
        return {"mask": self.mask_head(e), "box": self.box_head(c)}


def box_iou(a, b):
    top_left = torch.maximum(a[:, :2], b[:, :2])
    bottom_right = torch.minimum(a[:, 2:], b[:, 2:])
    inter = (bottom_right - top_left).clamp(min=0).prod(dim=1)
    area_a = (a[:, 2:] - a[:, :2]).clamp(min=0).prod(dim=1)
    area_b = (b[:, 2:] - b[:, :2]).prod(dim=1)
    return inter / (area_a + area_b - inter)


class ConfusionMatrix:
    def __init__(self, classes):
        self.matrix = torch.zeros(classes, classes)

    def update(self, predicted, actual):
        k = len(self.matrix)
        self.matrix += torch.bincount(actual.flatten() * k + predicted.flatten(), minlength=k * k).view(k, k)

    def mean_iou(self):
        hit = self.matrix.diag()
        return (hit / (self.matrix.sum(0) + self.matrix.sum(1) - hit).clamp(min=1)).mean().item()


def train_epoch(model, loader, optimizer, weights, args):
    model.train()
    totals = {"mask": 0.0, "box": 0.0}
    count = 0
    for images, targets in loader:
        outputs = model(images)
        loss_mask = F.cross_entropy(outputs["mask"], targets["mask"], weight=weights)
        loss_box = F.smooth_l1_loss(outputs["box"], targets["box"], beta=0.1)
        optimizer.zero_grad()
        (loss_mask + args.box_weight * loss_box).backward()
        optimizer.step()
        totals["mask"] += loss_mask.item() * len(images)
        totals["box"] += loss_box.item() * len(images)
        count += len(images)
    return {name: value / count for name, value in totals.items()}


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    confusion = ConfusionMatrix(len(CLASSES))
    ious = []
    for images, targets in loader:
        outputs = model(images)
        confusion.update(outputs["mask"].argmax(dim=1), targets["mask"])
        ious.append(box_iou(outputs["box"], targets["box"]))
    return confusion.mean_iou(), torch.cat(ious).mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=30)
    parser.add_argument("--lr", type=float, default=4e-3)
    parser.add_argument("--box-weight", type=float, default=4.0)
    args = parser.parse_args()

    torch.manual_seed(21)
    train_loader = DataLoader(ShapesMultiTask(train=True), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(ShapesMultiTask(train=False), batch_size=80)
    weights = torch.tensor([0.5, 1.0, 1.0, 1.0])
    model = SharedUNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)
    for epoch in range(args.epochs):
        losses = train_epoch(model, train_loader, optimizer, weights, args)
        scheduler.step()
        miou, biou = evaluate(model, val_loader)
        print(f"[{epoch}] mask {losses['mask']:.4f} box {losses['box']:.4f} | val mIoU {miou:.3f} box IoU {biou:.3f}")


if __name__ == "__main__":
    main()
