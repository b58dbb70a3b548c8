import argparse
import os
import random
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, random_split

from toydata import Digits

parser = argparse.ArgumentParser(description="Digit training")
parser.add_argument("--epochs", default=10, type=int)
parser.add_argument("-b", "--batch-size", default=50, type=int)
parser.add_argument("--lr", default=0.05, type=float)
parser.add_argument("--momentum", default=0.9, type=float)
parser.add_argument("--wd", default=5e-4, type=float)
parser.add_argument("--warmup-steps", default=20, type=int)
parser.add_argument("--seed", default=1, type=int)


class Net(nn.Module):
    def __init__(self, width=16, classes=10):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(inplace=True), nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 4 * width, 3, padding=1, bias=False), nn.BatchNorm2d(4 * width), nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(4 * width * 16, classes)

    def forward(self, x):
        x = torch.flatten(self.features(x), 1)
        # the exported graph gives log probabilities
        return F.log_softmax(self.fc(self.dropout(x)), dim=1)


class AverageMeter:
    def __init__(self, name):
        self.name, self.sum, self.count = name, 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / self.count

    def __str__(self):
        return f"{self.name} {self.avg:.4f}"


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        maxk = max(topk)
        _, pred = output.topk(maxk, 1, True, True)
        pred = pred.t()
        correct = pred.eq(target.view(1, -1).expand_as(pred))
        return [correct[:k].reshape(-1).float().sum() * (100.0 / target.size(0)) for k in topk]


def train(loader, model, criterion, optimizer, scheduler, epoch):
    losses, top1 = AverageMeter("Loss"), AverageMeter("Acc@1")
    model.train()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.detach(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    print(f"Epoch {epoch:2d} | {losses} | {top1}", end=" | ")


def validate(loader, model):
    losses, top1, top5 = AverageMeter("NLL"), AverageMeter("Acc@1"), AverageMeter("Acc@5")
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            acc1, acc5 = accuracy(output, target, topk=(1, 5))
            losses.update(F.nll_loss(output, target), images.size(0))
            top1.update(acc1, images.size(0))
            top5.update(acc5, images.size(0))
    print(f"* {losses} {top1} {top5}")
    return float(top1.avg)


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    stats = Digits(train=True).data.float() / 255
    mean, std = stats.mean(), stats.std()

    def transform(image):
        return (image.float() / 255 - mean) / std

    full = Digits(train=True, transform=transform)
    train_set, val_set = random_split(full, [1000, 200], generator=torch.Generator().manual_seed(0))
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100)
    test_loader = DataLoader(Digits(train=False, transform=transform), batch_size=100)

    model = Net()
    criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.wd)

    total = args.epochs * len(train_loader)

    def factor(step):
        if step < args.warmup_steps:
            return (step + 1) / args.warmup_steps
        progress = (step - args.warmup_steps) / (total - args.warmup_steps)
        return 0.5 * (1 + np.cos(np.pi * progress))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)

    best_acc1 = -1.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model_best.pth")
        for epoch in range(args.epochs):
            train(train_loader, model, criterion, optimizer, scheduler, epoch)
            acc1 = validate(val_loader, model)
            if acc1 > best_acc1:
                best_acc1 = acc1
                torch.save(model.state_dict(), path)
        model.load_state_dict(torch.load(path))
    print(f"best validation Acc@1 {best_acc1:.2f}, test:", end=" ")
    validate(test_loader, model)


if __name__ == "__main__":
    main()
