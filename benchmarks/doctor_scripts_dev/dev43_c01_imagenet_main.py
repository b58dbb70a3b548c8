import argparse
import math
import os
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="PyTorch digit training")
parser.add_argument("--epochs", default=8, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("-b", "--batch-size", default=64, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", dest="lr")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("--warmup-epochs", default=1, type=int)
parser.add_argument("--seed", default=1, type=int)


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
        out = self.bn2(self.conv2(out))
        return F.relu(out + identity)


class ResNet(nn.Module):
    def __init__(self, width=16, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4 * width, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(m, nn.BatchNorm2d):
                nn.init.constant_(m.weight, 1)
                nn.init.constant_(m.bias, 0)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Preprocess:
    def __init__(self, mean, std, padding=0):
        self.mean, self.std, self.padding = mean, std, padding

    def __call__(self, image):
        if self.padding:
            size = image.shape[-1]
            image = F.pad(image, [self.padding] * 4)
            top, left = torch.randint(0, 2 * self.padding + 1, (2,)).tolist()
            image = image[:, top : top + size, left : left + size]
        return (image.float() / 255 - self.mean) / self.std


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count = name, 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        pred = pred.t()
        correct = pred.eq(target.view(1, -1).expand_as(pred))
        return [correct[:k].reshape(-1).float().sum().mul(100.0 / target.size(0)).item() for k in topk]


def train(loader, model, criterion, optimizer, scheduler, epoch):
    losses, top1 = AverageMeter("Loss"), AverageMeter("Acc@1")
    model.train()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    print(f"Epoch [{epoch}] Loss {losses.avg:.4f} Acc@1 {top1.avg:.2f}")


def validate(loader, model, criterion):
    losses, top1, top3 = AverageMeter("Loss"), AverageMeter("Acc@1"), AverageMeter("Acc@3")
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            top1.update(acc1, images.size(0))
            top3.update(acc3, images.size(0))
    print(f" * Loss {losses.avg:.4f} Acc@1 {top1.avg:.3f} Acc@3 {top3.avg:.3f}")
    return top1.avg


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    pixels = Digits(train=True).data.float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    train_loader = DataLoader(Digits(True, transform=Preprocess(mean, std, padding=1)), args.batch_size, shuffle=True)
    val_loader = DataLoader(Digits(False, transform=Preprocess(mean, std)), args.batch_size, shuffle=False)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, nesterov=True, weight_decay=args.weight_decay)
    warmup, total = args.warmup_epochs * len(train_loader), args.epochs * len(train_loader)

    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    best_acc1 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        last, best = os.path.join(folder, "checkpoint.pth.tar"), os.path.join(folder, "model_best.pth.tar")
        for epoch in range(args.epochs):
            train(train_loader, model, criterion, optimizer, scheduler, epoch)
            acc1 = validate(val_loader, model, criterion)
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, last)
            if is_best:
                shutil.copyfile(last, best)
        model.load_state_dict(torch.load(best)["state_dict"])
    print(f"best Acc@1 {validate(val_loader, model, criterion):.2f}")


if __name__ == "__main__":
    main()
