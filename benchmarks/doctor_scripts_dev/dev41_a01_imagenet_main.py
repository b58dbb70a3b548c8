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

parser = argparse.ArgumentParser(description="PyTorch Shapes Training")
parser.add_argument("--epochs", default=9, type=int, metavar="N", help="number of total epochs to run")
parser.add_argument("-b", "--batch-size", default=32, type=int, metavar="N", help="mini-batch size")
parser.add_argument("--lr", "--learning-rate", default=0.05, type=float, metavar="LR", dest="lr")
parser.add_argument("--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay")
parser.add_argument("--seed", default=0, type=int, help="seed for initializing training")


def normalize(image):
    mean, std = torch.tensor([0.50, 0.45, 0.50]), torch.tensor([0.18, 0.14, 0.18])
    return (image - mean[:, None, None]) / std[:, None, None]


def augment(image, size=16, padding=2, erase=6):
    if random.random() < 0.5:
        image = image.flip(-1)
    image = F.pad(image, [padding] * 4)
    top, left = random.randint(0, 2 * padding), random.randint(0, 2 * padding)
    image = normalize(image[:, top : top + size, left : left + size])
    if random.random() < 0.5:
        top, left = random.randint(0, size - erase), random.randint(0, size - erase)
        image[:, top : top + erase, left : left + erase] = 0
    return image


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
    def __init__(self, num_classes=6):
        super().__init__()
        self.inplanes = 16
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layer1 = self._make_layer(24, 3, stride=2)
        self.layer2 = self._make_layer(32, 3, stride=2)
        self.fc = nn.Linear(32, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")

    def _make_layer(self, planes, blocks, stride):
        layers = [BasicBlock(self.inplanes, planes, stride)]
        self.inplanes = planes
        for _ in range(1, blocks):
            layers.append(BasicBlock(planes, planes))
        return nn.Sequential(*layers)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(x.mean(dim=(2, 3)))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum, self.count = self.sum + val * n, self.count + n
        self.avg = self.sum / self.count


def accuracy(output, target):
    return (output.argmax(dim=1) == target).float().mean().item() * 100.0


def train(loader, model, criterion, optimizer, epoch):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for images, target in loader:
        output = model(images)
        loss = criterion(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target), images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"Epoch: [{epoch}] Loss {losses.avg:.4f} Acc@1 {top1.avg:.2f}")


def validate(loader, model, criterion):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(accuracy(output, target), images.size(0))
    print(f" * Acc@1 {top1.avg:.3f} Loss {losses.avg:.4f}")
    return top1.avg, losses.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, "checkpoint.pth.tar")
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, "model_best.pth.tar"))


def main():
    args, folder = parser.parse_args(), tempfile.mkdtemp()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    best_acc1 = 0.0
    order = torch.randperm(900).tolist()
    train_dataset = Subset(toydata.Shapes(train=True, transform=augment), order[:750])
    val_dataset = Subset(toydata.Shapes(train=True, transform=normalize), order[750:])
    test_dataset = toydata.Shapes(train=False, transform=normalize)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_dataset, batch_size=150)

    model = ResNet()
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[6, 8], gamma=0.1)

    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, epoch)
        acc1, val_loss = validate(val_loader, model, criterion)
        scheduler.step()
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        state = {"epoch": epoch + 1, "state_dict": model.state_dict(), "best_acc1": best_acc1}
        save_checkpoint(state, is_best, folder)

    checkpoint = torch.load(os.path.join(folder, "model_best.pth.tar"))
    model.load_state_dict(checkpoint["state_dict"])
    print(f"=> test of the checkpoint of epoch {checkpoint['epoch']}")
    validate(DataLoader(test_dataset, batch_size=120), model, criterion)


if __name__ == "__main__":
    main()
