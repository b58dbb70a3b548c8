"""Digit classification, after the ImageNet example: meters, EMA weights, best checkpoint kept."""

import argparse
import copy
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="digits training")
parser.add_argument("--epochs", default=8, type=int)
parser.add_argument("-b", "--batch-size", default=50, type=int)
parser.add_argument("--lr", default=2e-3, type=float)
parser.add_argument("--wd", "--weight-decay", default=1e-2, type=float, dest="weight_decay")
parser.add_argument("--ema-decay", default=0.9, type=float)
parser.add_argument("-p", "--print-freq", default=12, type=int)
parser.add_argument("--seed", default=0, type=int)


class AverageMeter:
    """Computes and stores the average and current value."""

    def __init__(self, name, fmt=":.3f"):
        self.name, self.fmt = name, fmt
        self.val = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(1, self.count)

    def __str__(self):
        return ("{name} {val" + self.fmt + "} ({avg" + self.fmt + "})").format(name=self.name, val=self.val, avg=self.avg)


class ConvNet(nn.Module):
    def __init__(self, num_classes=10, width=16):
        super().__init__()
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(2 * width)
        self.fc1 = nn.Linear(2 * width * 4 * 4, 64)
        self.fc2 = nn.Linear(64, num_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.bn2(self.conv2(x))), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        x = self.fc2(x)
        return x


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema.dtype.is_floating_point:
                ema.mul_(self.decay).add_(value, alpha=1 - self.decay)
            else:
                ema.copy_(value)


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.3


def train(loader, model, ema, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter("Loss"), AverageMeter("Acc@1", ":.2f")
    model.train()
    for i, (images, target) in enumerate(loader):
        output = model(images)
        loss = criterion(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ema.update(model)
        losses.update(loss.item(), images.size(0))
        top1.update(100 * (output.argmax(1) == target).float().mean().item(), images.size(0))
        if i % args.print_freq == 0:
            print(f"Epoch: [{epoch}][{i}/{len(loader)}]", losses, top1, sep="\t")


@torch.no_grad()
def validate(loader, model, criterion):
    losses, top1 = AverageMeter("Loss"), AverageMeter("Acc@1", ":.2f")
    model.eval()
    for images, target in loader:
        output = model(images)
        losses.update(criterion(output, target).item(), images.size(0))
        top1.update(100 * (output.argmax(1) == target).float().mean().item(), images.size(0))
    print(f" * Acc@1 {top1.avg:.2f} Loss {losses.avg:.4f}")
    return top1.avg


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train_set = Digits(train=True, transform=to_tensor)
    val_set = Digits(train=False, transform=to_tensor)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=100, shuffle=False)

    model = ConvNet()
    ema = ModelEma(model, args.ema_decay)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), args.lr, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=args.epochs)

    best_acc1, best_state = 0.0, None
    end = time.time()
    for epoch in range(args.epochs):
        train(train_loader, model, ema, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, ema.module, criterion)
        scheduler.step()
        if acc1 > best_acc1:
            best_acc1 = acc1
            best_state = copy.deepcopy(ema.module.state_dict())
    ema.module.load_state_dict(best_state)
    print(f"best Acc@1 {best_acc1:.2f}, {time.time() - end:.1f} s")


if __name__ == "__main__":
    main()
