"""Train a small residual network on digits that lie class after class, as in folders."""

import argparse
import os
import random
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

parser = argparse.ArgumentParser(description="Digits training")
parser.add_argument("--epochs", default=10, type=int)
parser.add_argument("-b", "--batch-size", default=64, type=int)
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float)
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay")
parser.add_argument("-p", "--print-freq", default=10, type=int)


class DigitFolder(Dataset):
    def __init__(self, count, seed, transform):
        images, labels = draw_digits(count, seed=seed)
        self.samples = sorted(zip(images, labels.tolist()), key=lambda sample: sample[1])
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, target = self.samples[index]
        return self.transform(image), target


def normalize(image):
    return (image.float().div(255) - 0.17) / 0.3


def random_shift(image):
    top, left = random.randint(0, 2), random.randint(0, 2)
    return F.pad(image, [1, 1, 1, 1])[:, top : top + 16, left : left + 16]


class Block(nn.Module):
    def __init__(self, inplanes, planes, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.layer1 = Block(12, 24, 2)
        self.layer2 = Block(24, 48, 2)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(self.dropout(x.mean(dim=(2, 3))))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count


def accuracy(output, target):
    return (output.argmax(dim=1) == target).float().mean().item() * 100


def train(loader, model, criterion, optimizer, scheduler, epoch, args):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for i, (images, target) in enumerate(loader):
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % args.print_freq == 0:
            rate = scheduler.get_last_lr()[0]
            print(f"Epoch [{epoch}][{i}/{len(loader)}] lr {rate:.5f} loss {losses.avg:.3f} acc@1 {top1.avg:.1f}")


def validate(loader, model, criterion):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(accuracy(output, target), images.size(0))
    print(f" * loss {losses.avg:.3f} acc@1 {top1.avg:.2f}")
    return top1.avg, losses.avg


def main():
    args = parser.parse_args()
    random.seed(42)
    torch.manual_seed(42)
    folder = tempfile.mkdtemp()

    train_set = DigitFolder(1200, 0, lambda image: normalize(random_shift(image)))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(DigitFolder(300, 1, normalize), batch_size=100)
    test_loader = DataLoader(DigitFolder(300, 2, normalize), batch_size=100)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)

    best_acc1 = 0.0
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, scheduler, epoch, args)
        acc1, val_loss = validate(val_loader, model, criterion)
        scheduler.step()
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        filename = os.path.join(folder, "checkpoint.pth.tar")
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict()}, filename)
        if is_best:
            shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))

    checkpoint = torch.load(os.path.join(folder, "model_best.pth.tar"), weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    print("test, with the weights of epoch", checkpoint["epoch"])
    validate(test_loader, model, criterion)


if __name__ == "__main__":
    main()
