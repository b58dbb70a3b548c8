"""Digits training, after pytorch/examples imagenet/main.py (one process, no DDP)."""
import argparse
import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="PyTorch digits training")
parser.add_argument("--epochs", default=8, type=int, help="number of total epochs to run")
parser.add_argument("--warmup-epochs", default=1, type=int)
parser.add_argument("-b", "--batch-size", default=48, type=int)
parser.add_argument("--lr", default=0.05, type=float, help="peak learning rate")
parser.add_argument("--wd", default=5e-4, type=float)
parser.add_argument("--seed", default=1, type=int)
parser.add_argument("--resume", default="", type=str, help="path to latest checkpoint")
parser.add_argument("--out", default="", type=str)

best_acc1 = 0.0


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Identity()
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.fc = nn.Linear(64, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.fc(x.mean(dim=(2, 3)))


class Preprocess:
    def __init__(self, mean, std, pad=0):
        self.mean, self.std, self.pad = mean, std, pad

    def __call__(self, img):
        x = (img.float() / 255 - self.mean) / self.std
        if self.pad:
            x = F.pad(x, [self.pad] * 4, value=-self.mean / self.std)
            top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
            x = x[:, top:top + img.size(1), left:left + img.size(2)]
        return x


class AverageMeter:
    sum, count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        correct = output.topk(max(topk), dim=1).indices.t().eq(target.view(1, -1))
        return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def train(loader, model, criterion, optimizer, scheduler, epoch):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))
    print(f"Epoch [{epoch}] loss {losses.avg:.4f} acc@1 {top1.avg:.2f}")


def validate(loader, model, criterion):
    losses, top1, top3 = AverageMeter(), AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1, images.size(0))
            top3.update(acc3, images.size(0))
    print(f" * val loss {losses.avg:.4f} acc@1 {top1.avg:.2f} acc@3 {top3.avg:.2f}")
    return top1.avg


def main():
    global best_acc1
    args = parser.parse_args()
    out = args.out or tempfile.mkdtemp()
    torch.manual_seed(args.seed)
    train_dataset, val_dataset = Digits(train=True), Digits(train=False)
    mean, std = (f(train_dataset.data.float() / 255).item() for f in (torch.mean, torch.std))
    train_dataset.transform = Preprocess(mean, std, pad=1)
    val_dataset.transform = Preprocess(mean, std)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_dataset, batch_size=100)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=args.wd, nesterov=True)
    warmup, total = args.warmup_epochs * len(train_loader), args.epochs * len(train_loader)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (step + 1) / warmup if step < warmup else
                                                  0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup))))
    start_epoch = 0
    if args.resume and os.path.isfile(args.resume):
        checkpoint = torch.load(args.resume, map_location="cpu")
        start_epoch, best_acc1 = checkpoint["epoch"], checkpoint["best_acc1"]
        model.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        scheduler.load_state_dict(checkpoint["scheduler"])

    for epoch in range(start_epoch, args.epochs):
        train(train_loader, model, criterion, optimizer, scheduler, epoch)
        acc1 = validate(val_loader, model, criterion)
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        state = {"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1,
                 "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        torch.save(state, os.path.join(out, "checkpoint.pth.tar"))
        if is_best:
            torch.save(state, os.path.join(out, "model_best.pth.tar"))
    print(f"best acc@1 {best_acc1:.2f}")


if __name__ == "__main__":
    main()
