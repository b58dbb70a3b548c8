"""Training of a small residual network on 16 x 16 digits, after the ImageNet example of pytorch/examples."""

import argparse
import os
import shutil
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Subset

from toydata import Digits

parser = argparse.ArgumentParser(description="PyTorch Digits Training")
parser.add_argument("--epochs", default=9, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("-b", "--batch-size", default=40, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", dest="lr")
parser.add_argument("--momentum", default=0.9, type=float, metavar="M")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("--val-size", default=240, type=int, help="images kept back for validation")
parser.add_argument("--seed", default=1, type=int)


class RandomShift:
    def __init__(self, pixels):
        self.pixels = pixels

    def __call__(self, image):
        height, width = image.shape[-2:]
        padded = F.pad(image, [self.pixels] * 4)
        top, left = torch.randint(0, 2 * self.pixels + 1, (2,)).tolist()
        return padded[:, top : top + height, left : left + width]


def to_tensor(image):
    return (image.float() / 255 - 0.17) / 0.30


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
        identity = x if self.downsample is None else self.downsample(x)
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + identity)


class TinyResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        return self.fc(x.mean(dim=(2, 3)))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum().item() * 100.0 / target.size(0) for k in topk]


def train(train_loader, model, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    end = time.time()
    for images, target in train_loader:
        output = model(images)
        loss = criterion(output, target)
        acc1 = accuracy(output, target)[0]
        losses.update(loss.item(), images.size(0))
        top1.update(acc1, images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"Epoch [{epoch + 1}/{args.epochs}] Time {time.time() - end:.1f} Loss {losses.avg:.4f} Acc@1 {top1.avg:.2f}")


def validate(loader, model, criterion):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            acc1 = accuracy(output, target)[0]
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1, images.size(0))
    print(f" * Loss {losses.avg:.4f} Acc@1 {top1.avg:.3f}")
    return top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    augmented = Digits(train=True, transform=lambda image: to_tensor(RandomShift(1)(image)))
    plain = Digits(train=True, transform=to_tensor)
    order = torch.randperm(len(plain)).tolist()
    train_idx, val_idx = order[args.val_size :], order[: args.val_size]
    train_loader = DataLoader(Subset(augmented, train_idx), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(Subset(plain, val_idx), batch_size=100)
    test_loader = DataLoader(Digits(train=False, transform=to_tensor), batch_size=100)

    model = TinyResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = StepLR(optimizer, step_size=4, gamma=0.1)

    best_acc1 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(args.epochs):
            train(train_loader, model, criterion, optimizer, epoch, args)
            acc1 = validate(val_loader, model, criterion)
            scheduler.step()
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            save_checkpoint({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, is_best, folder)
        model.load_state_dict(torch.load(os.path.join(folder, "model_best.pth.tar"))["state_dict"])
    print("Test:")
    validate(test_loader, model, criterion)


if __name__ == "__main__":
    main()
