import argparse
import random
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='PyTorch image folder training')
parser.add_argument('--epochs', default=7, type=int, metavar='N')
parser.add_argument('-b', '--batch-size', default=64, type=int, metavar='N')
parser.add_argument('--lr', '--learning-rate', default=0.05, type=float, metavar='LR', dest='lr')
parser.add_argument('--momentum', default=0.9, type=float, metavar='M')
parser.add_argument('--wd', default=1e-4, type=float, dest='weight_decay')
parser.add_argument('-p', '--print-freq', default=10, type=int, metavar='N')
parser.add_argument('--seed', default=7, type=int)

CLASSES = ['blue_disc', 'blue_cross', 'green_disc', 'green_cross', 'red_disc', 'red_cross']
COLORS = {'red': (200, 70, 60), 'green': (70, 180, 70), 'blue': (60, 80, 200)}


def draw(cls, rng, size=24):
    color, shape = cls.split('_')
    img = rng.normal(110, 36, (size, size, 3))
    yy, xx = np.mgrid[:size, :size]
    cy, cx = rng.uniform(8, size - 8, 2)
    r = rng.uniform(3.5, 7)
    if shape == 'disc':
        m = (yy - cy) ** 2 + (xx - cx) ** 2 <= r ** 2
    else:
        m = (np.minimum(abs(yy - cy), abs(xx - cx)) <= 1) & (np.maximum(abs(yy - cy), abs(xx - cx)) <= r)
    img[m] = np.array(COLORS[color]) * rng.uniform(0.7, 1.2) + rng.normal(0, 44, (m.sum(), 3))
    return np.clip(img, 0, 255).astype(np.uint8)


class ImageFolder(Dataset):
    def __init__(self, counts, seed, transform):
        rng = np.random.default_rng(seed)
        self.samples = [(draw(c, rng), i) for i, c in enumerate(CLASSES) for _ in range(counts[i])]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        img, target = self.samples[index]
        return self.transform(img), target


MEAN, STD = np.array([0.44, 0.44, 0.44]), np.array([0.14, 0.13, 0.14])


def normalize(img):
    x = (img.astype(np.float64) / 255.0 - MEAN) / STD
    return torch.from_numpy(x.transpose(2, 0, 1).astype(np.float32))


def train_transform(img):
    if random.random() < 0.5:
        img = img[:, ::-1]
    pad = np.pad(img, ((2, 2), (2, 2), (0, 0)), mode='reflect')
    i, j = random.randint(0, 4), random.randint(0, 4)
    img = pad[i:i + 24, j:j + 24]
    return normalize(img)


def val_transform(img):
    return normalize(img)


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
    def __init__(self, num_classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 12, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.layer1 = BasicBlock(12, 24, 2)
        self.layer2 = BasicBlock(24, 32, 2)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def main():
    args = parser.parse_args()
    for seed_fn in (random.seed, np.random.seed, torch.manual_seed):
        seed_fn(args.seed)

    model = ResNet(len(CLASSES))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=5, gamma=0.1)

    train_dataset = ImageFolder([240] * 6, 1, train_transform)
    val_dataset = ImageFolder([70, 62, 75, 58, 66, 72], 2, val_transform)
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(val_dataset, batch_size=100, shuffle=False)

    best_acc1 = 0
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion, args)
        scheduler.step()
        best_acc1 = max(acc1, best_acc1)
    print('FINAL acc1 %.2f best %.2f' % (acc1, best_acc1))


def train(train_loader, model, criterion, optimizer, epoch, args):
    batch_time = AverageMeter('Time', ':6.3f')
    losses = AverageMeter('Loss', ':.4e')
    top1 = AverageMeter('Acc@1', ':6.2f')
    progress = ProgressMeter(len(train_loader), [batch_time, losses, top1], prefix="Epoch: [{}]".format(epoch))

    model.train()
    end = time.time()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)

        acc1, = accuracy(output, target, topk=(1,))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1[0], images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            progress.display(i + 1)


def validate(val_loader, model, criterion, args):
    losses = AverageMeter('Loss', ':.4e')
    top1 = AverageMeter('Acc@1', ':6.2f')
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            acc, = accuracy(output, target, topk=(1,))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc.item(), images.size(0))
    print(' * Acc@1 %.3f Loss %.4f' % (top1.avg, losses.avg))
    return top1.avg


class AverageMeter(object):
    def __init__(self, name, fmt=':f'):
        self.name, self.fmt = name, fmt
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = float(val)
        self.sum += float(val) * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ('{name} {val' + self.fmt + '} ({avg' + self.fmt + '})').format(**self.__dict__)


class ProgressMeter(object):
    def __init__(self, num_batches, meters, prefix=""):
        self.num_batches, self.meters, self.prefix = num_batches, meters, prefix

    def display(self, batch):
        print('\t'.join([self.prefix + '[%3d/%d]' % (batch, self.num_batches)] + [str(m) for m in self.meters]))


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        _, pred = output.topk(max(topk), 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
        return [correct[:k].reshape(-1).float().sum(0, keepdim=True).mul_(100.0 / target.size(0)) for k in topk]


if __name__ == '__main__':
    main()
