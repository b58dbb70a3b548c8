"""Train a small residual network on digits, after the ImageNet example of pytorch/examples."""

import argparse
import os
import random
import shutil
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="Digits training")
parser.add_argument("--epochs", default=8, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("-b", "--batch-size", default=64, type=int, metavar="N", help="mini-batch size")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", help="initial learning rate")
parser.add_argument("--momentum", default=0.9, type=float, metavar="M", help="momentum")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("-p", "--print-freq", default=10, type=int, metavar="N", help="print frequency")
parser.add_argument("--seed", default=0, type=int, help="seed for initializing training")


class RandomShift:
    def __init__(self, pixels):
        self.pixels = pixels

    def __call__(self, image):
        height, width = image.shape[-2:]
        padded = F.pad(image, (self.pixels,) * 4)
        top, left = random.randint(0, 2 * self.pixels), random.randint(0, 2 * self.pixels)
        return padded[:, top : top + height, left : left + width]


class Normalize:
    def __init__(self, mean, std):
        self.mean, self.std = mean, std

    def __call__(self, image):
        return (image.float() / 255 - self.mean) / self.std


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, stride=2), BasicBlock(32, 64, stride=2))
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        x = self.dropout(x.mean((2, 3)))
        return self.fc(x)


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def train(train_loader, model, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % args.print_freq == 0:
            print(f"Epoch: [{epoch}][{i}/{len(train_loader)}]\tTime {time.time() - end:.2f}\t"
                  f"Loss {losses.avg:.4f}\tAcc@1 {top1.avg:.2f}")


@torch.no_grad()
def validate(val_loader, model, criterion):
    losses, top1, top3 = AverageMeter(), AverageMeter(), AverageMeter()
    model.eval()
    for images, target in val_loader:
        output = model(images)
        acc1, acc3 = accuracy(output, target, topk=(1, 3))
        losses.update(criterion(output, target).item(), images.size(0))
        top1.update(acc1, images.size(0))
        top3.update(acc3, images.size(0))
    print(f" * Loss {losses.avg:.4f} Acc@1 {top1.avg:.3f} Acc@3 {top3.avg:.3f}")
    return top1.avg


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    folder = tempfile.mkdtemp()
    shift, normalize = RandomShift(1), Normalize(mean=0.175, std=0.306)
    train_dataset = Digits(train=True, transform=lambda image: normalize(shift(image)))
    val_dataset = Digits(train=False, transform=normalize)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)
    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = StepLR(optimizer, step_size=4, gamma=0.1)

    best_acc1 = 0.0
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion)
        scheduler.step()
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        filename = os.path.join(folder, "checkpoint.pth.tar")
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, filename)
        if is_best:
            shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))
    print(f"best Acc@1 {best_acc1:.3f}")


if __name__ == "__main__":
    main()
