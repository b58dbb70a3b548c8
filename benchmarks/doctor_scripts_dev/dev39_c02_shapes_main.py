import argparse
import os
import random
import shutil
import tempfile

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Shapes

parser = argparse.ArgumentParser(description="Training of a small ResNet on shapes")
parser.add_argument("--epochs", default=10, type=int)
parser.add_argument("-b", "--batch-size", default=60, type=int)
parser.add_argument("--lr", default=0.05, type=float, dest="lr")
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", default=1e-4, type=float, dest="weight_decay")
parser.add_argument("--drop-every", default=7, type=int)
parser.add_argument("-p", "--print-freq", default=10, type=int)
parser.add_argument("--seed", default=3, type=int)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + identity)


def resnet8(num_classes=6):
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
        BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes),
    )


def normalize(image):
    return (image - 0.48) / 0.18


def flip_and_normalize(image):
    if random.random() < 0.5:
        image = image.flip(-1)
    return normalize(image)


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count = name, 0.0, 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return float(self.sum) / max(self.count, 1)

    def __str__(self):
        return f"{self.name} {self.avg:.3f}"


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand(max(topk), -1))
        return [correct[:k].reshape(-1).float().sum() * (100.0 / target.size(0)) for k in topk]


def train(train_loader, model, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter("Loss"), AverageMeter("Acc@1")
    model.train()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        (acc1,) = accuracy(output, target)
        losses.update(loss.detach(), images.size(0))
        top1.update(acc1, images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if i % args.print_freq == 0:
            print(f"Epoch: [{epoch}][{i}/{len(train_loader)}]", losses, top1)


def validate(val_loader, model, criterion):
    losses, top1, top2 = AverageMeter("Loss"), AverageMeter("Acc@1"), AverageMeter("Acc@2")
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            acc1, acc2 = accuracy(output, target, topk=(1, 2))
            losses.update(criterion(output, target), images.size(0))
            top1.update(acc1, images.size(0))
            top2.update(acc2, images.size(0))
    print(" *", losses, top1, top2)
    return top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))


def adjust_learning_rate(optimizer, epoch, args):
    lr = args.lr * (0.1 ** (epoch // args.drop_every))
    for param_group in optimizer.param_groups:
        param_group["lr"] = lr


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)

    model = resnet8()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    train_loader = DataLoader(
        Shapes(train=True, transform=flip_and_normalize), batch_size=args.batch_size, shuffle=True, drop_last=True
    )
    val_loader = DataLoader(Shapes(train=False, transform=normalize), batch_size=80, shuffle=False)

    best_acc1 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(args.epochs):
            adjust_learning_rate(optimizer, epoch, args)
            train(train_loader, model, criterion, optimizer, epoch, args)
            acc1 = validate(val_loader, model, criterion)
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            save_checkpoint({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, is_best, folder)
    print(f"best Acc@1 {best_acc1:.2f}")


if __name__ == "__main__":
    main()
