"""Colored shapes with a small residual network, after the ImageNet example of pytorch/examples."""

import argparse
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Subset

from toydata import Shapes

parser = argparse.ArgumentParser(description="PyTorch Shapes Training")
parser.add_argument("--epochs", default=10, type=int, metavar="N")
parser.add_argument("-b", "--batch-size", default=50, type=int, metavar="N")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", dest="lr")
parser.add_argument("-p", "--print-freq", default=8, type=int, metavar="N")
parser.add_argument("--seed", default=3, type=int)

MEAN = torch.tensor([0.50, 0.45, 0.50]).view(3, 1, 1)
STD = torch.tensor([0.19, 0.14, 0.19]).view(3, 1, 1)


def train_transform(img):
    padded = F.pad(img[None], [2, 2, 2, 2], mode="replicate")[0]
    top, left = random.randint(0, 4), random.randint(0, 4)
    img = padded[:, top : top + 16, left : left + 16]
    if random.random() < 0.5:
        img = img.flip(-1)
    return (img - MEAN) / STD


def eval_transform(img):
    return (img - MEAN) / STD


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


class ResNet(nn.Module):
    def __init__(self, width=16, num_classes=6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = BasicBlock(width, width)
        self.layer2 = BasicBlock(width, 2 * width, stride=2)
        self.layer3 = BasicBlock(2 * width, 4 * width, stride=2)
        self.fc = nn.Linear(4 * width, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean(dim=(2, 3)))


class AverageMeter:
    def __init__(self):
        self.sum, self.count, self.avg = 0.0, 0, 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), dim=1)
        correct = pred.eq(target.view(-1, 1))
        return [100.0 * correct[:, :k].any(dim=1).float().mean().item() for k in topk]


def train(train_loader, model, criterion, optimizer, epoch, device, args):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for i, (images, target) in enumerate(train_loader):
        images, target = images.to(device), target.to(device)
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target)[0], images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % args.print_freq == 0:
            print(f"Epoch [{epoch}][{i}/{len(train_loader)}] Loss {losses.avg:.4f} Acc@1 {top1.avg:.2f}")


@torch.no_grad()
def validate(loader, model, criterion, device):
    losses, top1, top2 = AverageMeter(), AverageMeter(), AverageMeter()
    model.eval()
    for images, target in loader:
        images, target = images.to(device), target.to(device)
        output = model(images)
        acc1, acc2 = accuracy(output, target, topk=(1, 2))
        losses.update(criterion(output, target).item(), target.size(0))
        top1.update(acc1, target.size(0))
        top2.update(acc2, target.size(0))
    print(f" *   Acc@1 {top1.avg:.3f} Acc@2 {top2.avg:.3f} Loss {losses.avg:.4f}")
    return top1.avg


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_base = Shapes(train=True, count=1000, transform=train_transform)
    val_base = Shapes(train=True, count=1000, transform=eval_transform)
    order = torch.randperm(len(train_base), generator=torch.Generator().manual_seed(args.seed)).tolist()
    n_val = len(order) // 5
    train_idx = order[n_val:]
    val_idx = order[:n_val]
    train_loader = DataLoader(Subset(train_base, train_idx), batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(Subset(val_base, val_idx), batch_size=64)
    test_loader = DataLoader(Shapes(train=False, count=300, transform=eval_transform), batch_size=64)

    model = ResNet().to(device)
    criterion = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=6, gamma=0.1)

    best_acc1 = 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model_best.pth.tar")
        for epoch in range(args.epochs):
            train(train_loader, model, criterion, optimizer, epoch, device, args)
            acc1 = validate(val_loader, model, criterion, device)
            scheduler.step()
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            if is_best:
                torch.save({"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}, path)
        best = torch.load(path, map_location=device)
    model.load_state_dict(best["state_dict"])
    print(f"Best epoch {best['epoch']}: validation Acc@1 {best_acc1:.2f}, test:")
    validate(test_loader, model, criterion, device)


if __name__ == "__main__":
    main()
