"""Train a small convolutional network on digits, in the style of the usual image classification recipes."""

import argparse
import copy
import random
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

MEAN, STD = 0.17, 0.30


class AverageMeter:
    """Computes and stores the average and current value."""

    def __init__(self, name):
        self.name = name
        self.reset()

    def reset(self):
        self.val, self.sum, self.count = 0.0, 0.0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)

    def __str__(self):
        return f"{self.name} {self.avg:.4f}"


class TrainTransform:
    def __init__(self, pad=1):
        self.pad = pad

    def __call__(self, image):
        image = image.float() / 255
        size = image.shape[-1]
        image = F.pad(image, (self.pad,) * 4)
        top, left = random.randint(0, 2 * self.pad), random.randint(0, 2 * self.pad)
        return (image[:, top : top + size, left : left + size] - MEAN) / STD


def eval_transform(image):
    return (image.float() / 255 - MEAN) / STD


class ConvBlock(nn.Sequential):
    def __init__(self, inp, out):
        super().__init__(nn.Conv2d(inp, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class SmallNet(nn.Module):
    def __init__(self, num_classes=10, width=16, drop=0.1):
        super().__init__()
        self.stem = ConvBlock(1, width)
        self.stage1 = nn.Sequential(ConvBlock(width, width), nn.MaxPool2d(2))
        self.stage2 = nn.Sequential(ConvBlock(width, 2 * width), nn.MaxPool2d(2))
        self.dropout = nn.Dropout(drop)
        self.fc = nn.Linear(2 * width * 4 * 4, num_classes)

    def forward(self, x):
        x = self.stage2(self.stage1(self.stem(x)))
        x = self.dropout(torch.flatten(x, 1))
        return self.fc(x)


def train_one_epoch(loader, model, criterion, optimizer, scheduler, device):
    losses, top1 = AverageMeter("loss"), AverageMeter("acc@1")
    model.train()
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        output = model(images)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.update(loss.item(), len(images))
        top1.update((output.argmax(1) == target).float().mean().item(), len(images))
    return losses, top1


@torch.no_grad()
def validate(loader, model, criterion, device):
    losses, top1 = AverageMeter("loss"), AverageMeter("acc@1")
    model.eval()
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        output = model(images)
        losses.update(criterion(output, target).item(), len(images))
        top1.update((output.argmax(1) == target).float().mean().item(), len(images))
    return losses, top1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--wd", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set = Digits(train=True, transform=TrainTransform())
    val_set = Digits(train=False, transform=eval_transform)
    train_loader = DataLoader(train_set, args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_set, 100)

    model = SmallNet().to(device)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, nesterov=True, weight_decay=args.wd)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs * len(train_loader))

    best_acc, best_state = 0.0, None
    for epoch in range(args.epochs):
        start = time.time()
        train_loss, train_acc = train_one_epoch(train_loader, model, criterion, optimizer, scheduler, device)
        val_loss, val_acc = validate(val_loader, model, criterion, device)
        if val_acc.avg > best_acc:
            best_acc, best_state = val_acc.avg, copy.deepcopy(model.state_dict())
        print(f"epoch {epoch}: train {train_loss} {train_acc} | val {val_loss} {val_acc} ({time.time() - start:.1f}s)")
    model.load_state_dict(best_state)
    print(f"best acc@1 {best_acc:.4f}")


if __name__ == "__main__":
    main()
