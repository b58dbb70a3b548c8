"""Digits with a small residual network, in the manner of an image-classification train.py."""

import argparse
import copy
import math
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

MEAN, STD = 0.18, 0.33


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=0.08)
    parser.add_argument("--warmup-steps", type=int, default=15)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--ema-decay", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


class AverageMeter:
    def __init__(self):
        self.sum = 0.0
        self.count = 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for ema_p, p in zip(self.module.parameters(), model.parameters()):
            ema_p.lerp_(p, 1.0 - self.decay)
        for ema_b, b in zip(self.module.buffers(), model.buffers()):
            ema_b.copy_(b)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return F.relu(x + shortcut)


class ResNet(nn.Module):
    def __init__(self, num_classes=10, width=12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride=2)
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        x = x.mean(dim=(2, 3))
        return self.head(x)


def eval_transform(image):
    return (image.float() / 255 - MEAN) / STD


def train_transform(image):
    padded = F.pad(image, (1, 1, 1, 1))
    top, left = torch.randint(0, 3, (2,)).tolist()
    return eval_transform(padded[:, top : top + image.shape[1], left : left + image.shape[2]])


def train_one_epoch(epoch, model, loader, criterion, optimizer, scheduler, ema):
    model.train()
    losses = AverageMeter()
    start = time.time()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        ema.update(model)
        losses.update(loss.item(), images.size(0))
    print(f"Train: {epoch} loss {losses.avg:.4f} lr {optimizer.param_groups[0]['lr']:.4f} ({time.time() - start:.1f}s)")


@torch.no_grad()
def validate(model, loader):
    model.eval()
    losses, top1 = AverageMeter(), AverageMeter()
    for images, target in loader:
        output = model(images)
        losses.update(F.cross_entropy(output, target).item(), images.size(0))
        top1.update((output.argmax(dim=1) == target).float().mean().item(), images.size(0))
    return losses.avg, top1.avg


def main():
    args = get_args()
    torch.manual_seed(args.seed)
    train_loader = DataLoader(Digits(train=True, transform=train_transform), args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(Digits(train=False, transform=eval_transform), 100)
    model = ResNet()
    ema = ModelEma(model, args.ema_decay)
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": args.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=args.lr, momentum=0.9, nesterov=True)
    total = args.epochs * len(train_loader)

    def factor(step):
        if step < args.warmup_steps:
            return (step + 1) / args.warmup_steps
        return 0.5 * (1 + math.cos(math.pi * (step - args.warmup_steps) / (total - args.warmup_steps)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    criterion = nn.CrossEntropyLoss(label_smoothing=args.smoothing)
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, train_loader, criterion, optimizer, scheduler, ema)
        loss, acc = validate(model, val_loader)
        ema_loss, ema_acc = validate(ema.module, val_loader)
        print(f"Val: {epoch} loss {loss:.4f} top1 {acc:.3f} | ema loss {ema_loss:.4f} top1 {ema_acc:.3f}")


if __name__ == "__main__":
    main()
