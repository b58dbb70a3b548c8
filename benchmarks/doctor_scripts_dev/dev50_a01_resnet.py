"""Train a small residual network on digits, in the manner of the classic ImageNet example."""

import argparse
import os
import shutil
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader

import toydata

parser = argparse.ArgumentParser(description="Residual network on digits")
parser.add_argument("--epochs", default=10, type=int)
parser.add_argument("-b", "--batch-size", default=64, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--lr-step", default=6, type=int)
parser.add_argument("--clip", default=5.0, type=float)
parser.add_argument("--seed", default=1, type=int)

MEAN, STD = 0.15, 0.28


class Compose:
    def __init__(self, steps):
        self.steps = steps

    def __call__(self, image):
        for step in self.steps:
            image = step(image)
        return image


def to_float(image):
    return image.float() / 255


def normalize(image):
    return (image - MEAN) / STD


def random_shift(image):
    dy, dx = torch.randint(-1, 2, (2,)).tolist()
    return torch.roll(image, (dy, dx), dims=(-2, -1))


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return torch.relu(out + self.downsample(x))


class ResNet(nn.Module):
    def __init__(self, num_classes=10):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = BasicBlock(16, 32, 2)
        self.layer2 = BasicBlock(32, 64, 2)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(64 * 4, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(self.dropout(self.pool(x).flatten(1)))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)


def accuracy(output, target):
    return (output.argmax(1) == target).float().mean().item() * 100


def train(loader, model, criterion, optimizer, scaler, args):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), len(images))
        top1.update(accuracy(output, target), len(images))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        scaler.step(optimizer)
        scaler.update()
    return losses.avg, top1.avg


def validate(loader, model, criterion):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), len(images))
            top1.update(accuracy(output, target), len(images))
    return losses.avg, top1.avg


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    folder = tempfile.mkdtemp()

    train_set = toydata.Digits(train=True, transform=Compose([to_float, random_shift, normalize]))
    val_set = toydata.Digits(train=False, transform=Compose([to_float, normalize]))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100, shuffle=False)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=args.lr_step, gamma=0.1)
    scaler = torch.amp.GradScaler("cpu")

    best_acc1 = 0.0
    for epoch in range(args.epochs):
        train_loss, train_acc1 = train(train_loader, model, criterion, optimizer, scaler, args)
        val_loss, val_acc1 = validate(val_loader, model, criterion)
        scheduler.step()

        is_best = val_acc1 > best_acc1
        best_acc1 = max(val_acc1, best_acc1)
        path = os.path.join(folder, "checkpoint.pt")
        torch.save({"epoch": epoch + 1, "state_dict": model.state_dict()}, path)
        if is_best:
            shutil.copyfile(path, os.path.join(folder, "model_best.pt"))
        print(f"Epoch [{epoch}] train {train_loss:.3f} {train_acc1:.1f}  "
              f"val {val_loss:.3f} {val_acc1:.1f}")

    checkpoint = torch.load(os.path.join(folder, "model_best.pt"))
    model.load_state_dict(checkpoint["state_dict"])
    print("best of epoch %d: loss %.3f, acc@1 %.1f" % (checkpoint["epoch"], *validate(val_loader, model, criterion)))


if __name__ == "__main__":
    main()
