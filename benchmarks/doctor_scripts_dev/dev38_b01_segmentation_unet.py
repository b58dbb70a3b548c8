"""Semantic segmentation of toy shapes with a small U-Net, laid out like the reference training scripts."""

import argparse
import os
import random
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

CLASSES = ("background", "square", "disc", "cross")
MEAN = torch.tensor([0.50, 0.45, 0.50])[:, None, None]
STD = torch.tensor([0.19, 0.16, 0.19])[:, None, None]


class SegmentationPresetTrain:
    def __init__(self, hflip_prob=0.5, vflip_prob=0.5):
        self.hflip_prob, self.vflip_prob = hflip_prob, vflip_prob

    def __call__(self, image, target):
        if random.random() < self.hflip_prob:
            image, target = image.flip(-1), target.flip(-1)
        if random.random() < self.vflip_prob:
            image, target = image.flip(-2), target.flip(-2)
        return (image - MEAN) / STD, target


class SegmentationPresetEval:
    def __call__(self, image, target):
        return (image - MEAN) / STD, target


class ShapeSegmentation(Dataset):
    def __init__(self, shapes, indices, transforms):
        self.shapes, self.indices, self.transforms = shapes, list(indices), transforms

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, i):
        k = self.indices[i]
        return self.transforms(self.shapes.images[k], self.shapes.masks[k])


def double_conv(cin, cout):
    layers = []
    for channels in (cin, cout):
        layers += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    def __init__(self, num_classes, base=12):
        super().__init__()
        self.down1 = double_conv(3, base)
        self.down2 = double_conv(base, 2 * base)
        self.bottom = double_conv(2 * base, 4 * base)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * base, 2 * base, 2, stride=2)
        self.dec2 = double_conv(4 * base, 2 * base)
        self.up1 = nn.ConvTranspose2d(2 * base, base, 2, stride=2)
        self.dec1 = double_conv(2 * base, base)
        self.classifier = nn.Conv2d(base, num_classes, 1)

    def forward(self, x):
        skip1 = self.down1(x)
        skip2 = self.down2(self.pool(skip1))
        x = self.bottom(self.pool(skip2))
        x = self.dec2(torch.cat([self.up2(x), skip2], dim=1))
        x = self.dec1(torch.cat([self.up1(x), skip1], dim=1))
        return self.classifier(x)


class ConfusionMatrix:
    def __init__(self, num_classes):
        self.n = num_classes
        self.mat = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, truth, guess):
        known = (truth >= 0) & (truth < self.n)
        cells = self.n * truth[known] + guess[known]
        self.mat += torch.bincount(cells, minlength=self.n**2).reshape(self.n, self.n)

    def compute(self):
        h = self.mat.double()
        hits = torch.diag(h)
        return (hits.sum() / h.sum()).item(), hits / (h.sum(0) + h.sum(1) - hits)


def train_one_epoch(model, criterion, optimizer, lr_scheduler, data_loader, epoch):
    model.train()
    running = 0.0
    for image, target in data_loader:
        output = model(image)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        lr_scheduler.step()
        running += loss.item()
    print(f"Epoch [{epoch}] loss {running / len(data_loader):.4f}")


@torch.inference_mode()
def evaluate(model, criterion, data_loader):
    model.eval()
    confmat = ConfusionMatrix(len(CLASSES))
    total, seen = 0.0, 0
    for image, target in data_loader:
        output = model(image)
        total += criterion(output, target).item() * len(image)
        seen += len(image)
        confmat.update(target.flatten(), output.argmax(1).flatten())
    return total / seen, confmat


def main(args):
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    shapes = Shapes(train=True, count=800, size=24)
    held_out = Shapes(train=False, count=160, size=24)
    train_set = ShapeSegmentation(shapes, range(0, 640), SegmentationPresetTrain())
    val_set = ShapeSegmentation(shapes, range(640, 800), SegmentationPresetEval())
    test_set = ShapeSegmentation(held_out, range(len(held_out)), SegmentationPresetEval())
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, batch_size=40)
    test_loader = DataLoader(test_set, batch_size=40)

    model = UNet(len(CLASSES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    lr_scheduler = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=len(train_loader) * args.epochs, power=0.9)
    path = os.path.join(tempfile.mkdtemp(), "model_best.pth")
    best_loss = float("inf")
    for epoch in range(args.epochs):
        train_one_epoch(model, criterion, optimizer, lr_scheduler, train_loader, epoch)
        val_loss, confmat = evaluate(model, criterion, val_loader)
        accuracy, iou = confmat.compute()
        print(f"  val loss {val_loss:.4f} pixel acc {accuracy:.4f} mean IoU {iou.mean():.4f}")
        if val_loss < best_loss:
            best_loss = val_loss
            torch.save({"model": model.state_dict(), "epoch": epoch}, path)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(checkpoint["model"])
    _, confmat = evaluate(model, criterion, test_loader)
    accuracy, iou = confmat.compute()
    per_class = ", ".join(f"{name} {value:.3f}" for name, value in zip(CLASSES, iou.tolist()))
    print(f"Test (epoch {checkpoint['epoch']}): acc {accuracy:.4f} mean IoU {iou.mean():.4f} ({per_class})")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", default=10, type=int)
    parser.add_argument("--batch-size", default=16, type=int)
    parser.add_argument("--lr", default=0.05, type=float)
    parser.add_argument("--seed", default=0, type=int)
    main(parser.parse_args())
