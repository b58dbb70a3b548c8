"""Residual network on a folder of shape pictures, after the ImageNet example of pytorch/examples."""
import argparse
import os
import random
import shutil
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

from toydata import Shapes

parser = argparse.ArgumentParser(description='PyTorch shape folder training')
parser.add_argument('--epochs', default=8, type=int, help='number of total epochs to run')
parser.add_argument('-b', '--batch-size', default=32, type=int)
parser.add_argument('--lr', '--learning-rate', default=0.05, type=float, dest='lr')
parser.add_argument('--wd', '--weight-decay', default=1e-4, type=float, dest='weight_decay')
parser.add_argument('--seed', default=1, type=int)

MEAN = torch.tensor([0.50, 0.455, 0.50]).view(3, 1, 1)
STD = torch.tensor([0.17, 0.135, 0.17]).view(3, 1, 1)


class ImageFolder(Dataset):
    """Samples as a walk through the directories gives them, one class folder after the other."""

    def __init__(self, shapes, transform):
        order = sorted(range(len(shapes)), key=lambda i: shapes.targets[i])
        self.samples = [(shapes.images[i], shapes.targets[i]) for i in order]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        image, target = self.samples[index]
        return self.transform(image), target


def normalize(image):
    return (image - MEAN) / STD


def train_transform(image):
    size = image.shape[-1]
    image = F.pad(image, (2, 2, 2, 2), value=0.5)
    top, left = random.randint(0, 4), random.randint(0, 4)
    image = image[:, top:top + size, left:left + size]
    if random.random() < 0.5:
        image = image.flip(-1)
    return normalize(image)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, padding=1, bias=False)
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
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, stride=2), BasicBlock(32, 64, stride=2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class AverageMeter:
    sum, count, avg = 0.0, 0, 0.0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target):
    return output.argmax(dim=1).eq(target).float().mean().item() * 100


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
    print(f'Epoch: [{epoch}]  Loss {losses.avg:.4f}  Acc@1 {top1.avg:6.2f}')


def validate(val_loader, model, criterion):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(accuracy(output, target), images.size(0))
    print(f' * Loss {losses.avg:.4f}  Acc@1 {top1.avg:.3f}')
    return top1.avg


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    last, best = (os.path.join(tempfile.mkdtemp(), name) for name in ('checkpoint.pth.tar', 'model_best.pth.tar'))

    model = ResNet(num_classes=6)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, weight_decay=args.weight_decay)
    scheduler = StepLR(optimizer, step_size=4, gamma=0.1)

    train_sampler = None
    train_loader = DataLoader(ImageFolder(Shapes(train=True, size=20), train_transform), batch_size=args.batch_size,
                              shuffle=(train_sampler is None), sampler=train_sampler)
    val_loader = DataLoader(ImageFolder(Shapes(train=False, size=20), normalize), batch_size=args.batch_size)

    best_acc1 = 0.0
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, epoch)
        acc1 = validate(val_loader, model, criterion)
        scheduler.step()

        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        torch.save({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_acc1': best_acc1}, last)
        if is_best:
            shutil.copyfile(last, best)

    checkpoint = torch.load(best)
    model.load_state_dict(checkpoint['state_dict'])
    print('=> loaded best checkpoint (epoch {})'.format(checkpoint['epoch']))
    validate(val_loader, model, criterion)


if __name__ == '__main__':
    main()
