"""Colored shapes with a small residual network, laid out like the ImageNet example."""
import argparse
import os
import random
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

import toydata

parser = argparse.ArgumentParser(description="Colored Shapes Training")
parser.add_argument("--epochs", default=12, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("-b", "--batch-size", default=50, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", dest="lr")
parser.add_argument("--momentum", default=0.9, type=float, metavar="M")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("--seed", default=1, type=int, help="seed for initializing training")

best_acc1 = 0


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Identity()
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(
                nn.Conv2d(inplanes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


class ResNet8(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, stride=2), BasicBlock(32, 64, stride=2))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Sequential(nn.Dropout(0.3), nn.Linear(64, num_classes))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.avgpool(self.layers(x))
        return self.fc(torch.flatten(x, 1))


def normalize(image):
    mean, std = torch.tensor([0.5, 0.45, 0.5]), torch.tensor([0.19, 0.14, 0.19])
    return (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def random_crop_and_flip(image, padding=2):
    size = image.shape[-1]
    padded = F.pad(image, [padding] * 4, value=0.5)
    top, left = random.randint(0, 2 * padding), random.randint(0, 2 * padding)
    image = padded[:, top : top + size, left : left + size]
    return image.flip(2) if random.random() < 0.5 else image


def main():
    global best_acc1
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    workdir = tempfile.mkdtemp()

    model = ResNet8(num_classes=len(toydata.NAMES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay
    )
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)

    train_dataset = toydata.Shapes(train=True, transform=lambda image: normalize(random_crop_and_flip(image)))
    val_dataset = toydata.Shapes(train=True, transform=normalize)
    test_dataset = toydata.Shapes(train=False, transform=normalize)
    order = torch.randperm(len(train_dataset)).tolist()
    train_loader = DataLoader(Subset(train_dataset, order[:750]), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(Subset(val_dataset, order[750:]), batch_size=args.batch_size, shuffle=False)
    test_loader = DataLoader(test_dataset, batch_size=args.batch_size, shuffle=False)

    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, epoch)
        acc1 = validate(val_loader, model, criterion, "Val")
        scheduler.step()

        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        save_checkpoint({"epoch": epoch, "state_dict": model.state_dict(), "best_acc1": best_acc1}, is_best, workdir)

    checkpoint = torch.load(os.path.join(workdir, "model_best.pth.tar"), weights_only=True)
    model.load_state_dict(checkpoint["state_dict"])
    validate(test_loader, model, criterion, f"Test (epoch {checkpoint['epoch']})")
    shutil.rmtree(workdir)


def train(train_loader, model, criterion, optimizer, epoch):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for images, target in train_loader:
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target), images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"Epoch: [{epoch}]  Loss {losses.avg:.4f}  Acc@1 {top1.avg:.2f}")


def validate(loader, model, criterion, name):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(accuracy(output, target), images.size(0))
    print(f" * {name}  Loss {losses.avg:.4f}  Acc@1 {top1.avg:.2f}")
    return top1.avg


def save_checkpoint(state, is_best, workdir):
    filename = os.path.join(workdir, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(workdir, "model_best.pth.tar"))


class AverageMeter:
    def __init__(self):
        self.sum, self.count, self.avg = 0, 0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target):
    # in percent
    return 100.0 * output.argmax(dim=1).eq(target).float().mean().item()


if __name__ == "__main__":
    main()
