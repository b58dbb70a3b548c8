"""Small residual network on toy digits, after the ImageNet example."""
import argparse
import os
import random
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="Toy ImageNet training")
parser.add_argument("--epochs", default=7, type=int, help="number of total epochs to run")
parser.add_argument("--warmup-epochs", default=1, type=int)
parser.add_argument("-b", "--batch-size", default=64, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--weight-decay", default=1e-4, type=float)
parser.add_argument("--seed", default=0, type=int)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = BasicBlock(16, 16)
        self.layer2 = BasicBlock(16, 32, stride=2)
        self.layer3 = BasicBlock(32, 64, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Preprocess:
    def __init__(self, mean, std, jitter=0):
        self.mean, self.std, self.jitter = mean, std, jitter

    def __call__(self, image):
        image = image.float() / 255
        if self.jitter:
            p, (h, w) = self.jitter, image.shape[-2:]
            top, left = random.randint(0, 2 * p), random.randint(0, 2 * p)
            image = F.pad(image, (p, p, p, p))[:, top : top + h, left : left + w]
        return (image - self.mean) / self.std


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def train(train_loader, model, criterion, optimizer, scheduler, epoch):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if i % 10 == 0:
            print(f"Epoch [{epoch}][{i}/{len(train_loader)}] Loss {losses.avg:.3f} Acc@1 {top1.avg:.2f} {scheduler.get_last_lr()[0]:.4f}")


def validate(val_loader, model, criterion):
    losses, top1, top3 = (AverageMeter() for _ in range(3))
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1, images.size(0))
            top3.update(acc3, images.size(0))
    print(f" * Loss {losses.avg:.3f} Acc@1 {top1.avg:.2f} Acc@3 {top3.avg:.2f}")
    return top1.avg


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    pixels = Digits(train=True).data.float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    train_dataset = Digits(train=True, transform=Preprocess(mean, std, jitter=1))
    val_dataset = Digits(train=False, transform=Preprocess(mean, std))
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)

    model, criterion = ResNet(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, args.momentum, weight_decay=args.weight_decay, nesterov=True)
    warmup = args.warmup_epochs * len(train_loader)
    scheduler = SequentialLR(
        optimizer,
        [
            LinearLR(optimizer, start_factor=0.1, total_iters=warmup),
            CosineAnnealingLR(optimizer, T_max=args.epochs * len(train_loader) - warmup),
        ],
        milestones=[warmup],
    )
    best_acc1, folder = 0.0, tempfile.mkdtemp()
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, scheduler, epoch)
        acc1 = validate(val_loader, model, criterion)
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        filename = os.path.join(folder, "checkpoint.pth.tar")
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, filename)
        if is_best:
            shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))
    print(f"best Acc@1 {best_acc1:.2f}")


if __name__ == "__main__":
    main()
