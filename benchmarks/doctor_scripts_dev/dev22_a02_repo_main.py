"""Train a small ResNet on digits: python main.py --lr 0.05 --epochs 24"""
import argparse
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from torch.utils.data import DataLoader, Subset

from toydata import Digits


# ----------------------------------------------------------------------------- utils
class AverageMeter:
    def __init__(self):
        self.sum, self.avg, self.count = 0.0, 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target, topk=(1,)):
    """Computes the precision@k for the specified values of k."""
    with torch.no_grad():
        maxk = max(topk)
        _, pred = output.topk(maxk, 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand(maxk, -1))
        return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


# ----------------------------------------------------------------------------- transforms
class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class ToFloat:
    def __call__(self, image):
        return image.float() / 255


class RandomCrop:
    """Pads with zeros and cuts out a window of the old size."""

    def __init__(self, padding):
        self.padding = padding

    def __call__(self, image):
        height, width = image.shape[-2:]
        image = F.pad(image, (self.padding,) * 4)
        top, left = random.randint(0, 2 * self.padding), random.randint(0, 2 * self.padding)
        return image[:, top : top + height, left : left + width]


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image - self.mean) / self.std


# ----------------------------------------------------------------------------- model
class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, planes=(24, 48), num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages, in_planes = [], 16
        for width in planes:
            stages.append(BasicBlock(in_planes, width, stride=2))
            in_planes = width
        self.stages = nn.ModuleList(stages)
        self.linear = nn.Linear(in_planes, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for stage in self.stages:
            x = stage(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.linear(x)


# ----------------------------------------------------------------------------- loops
def train(loader, model, criterion, optimizer):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses.avg, top1.avg


def validate(loader, model, criterion):
    losses, top1, top2 = AverageMeter(), AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            prec1, prec2 = accuracy(output, target, topk=(1, 2))
            top1.update(prec1, images.size(0))
            top2.update(prec2, images.size(0))
    return losses.avg, top1.avg, top2.avg


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    seed_everything(args.seed)
    torch.set_num_threads(1)

    mean, std = 0.21, 0.31
    train_set = Digits(train=True, count=1800, transform=Compose([ToFloat(), RandomCrop(1), Normalize(mean, std)]))
    held_out = Digits(train=False, count=700, transform=Compose([ToFloat(), Normalize(mean, std)]))
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True)
    val_loader = DataLoader(Subset(held_out, range(0, 350)), 100)
    test_loader = DataLoader(Subset(held_out, range(350, 700)), 100)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=5e-4)
    scheduler = optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            optim.lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=args.warmup),
            optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs - args.warmup),
        ],
        milestones=[args.warmup],
    )

    checkpoint = os.path.join(tempfile.mkdtemp(), "model_best.pth")
    best_loss = float("inf")
    for epoch in range(args.epochs):
        train_loss, train_acc = train(train_loader, model, criterion, optimizer)
        val_loss, val_acc, val_top2 = validate(val_loader, model, criterion)
        scheduler.step()
        print(
            f"Epoch [{epoch + 1}/{args.epochs}] train loss {train_loss:.4f} acc {train_acc:.2f} | "
            f"val loss {val_loss:.4f} prec@1 {val_acc:.2f} prec@2 {val_top2:.2f}"
        )
        if val_loss < best_loss:
            best_loss = val_loss
            torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "val_loss": val_loss}, checkpoint)

    saved = torch.load(checkpoint)
    best_model = ResNet()
    best_model.load_state_dict(saved["state_dict"])
    test_loss, test_acc, _ = validate(test_loader, best_model, criterion)
    print(f"=> epoch {saved['epoch']}: test loss {test_loss:.4f} prec@1 {test_acc:.2f}")


if __name__ == "__main__":
    main()
