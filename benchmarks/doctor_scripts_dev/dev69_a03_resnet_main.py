"""Train a small ResNet on coloured digits over cluttered backgrounds."""
import argparse
import os
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter, zoom
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='Digits-M training')
parser.add_argument('--epochs', default=12, type=int, metavar='N')
parser.add_argument('-b', '--batch-size', default=64, type=int, metavar='N')
parser.add_argument('--lr', '--learning-rate', default=0.03, type=float, metavar='LR')
parser.add_argument('--momentum', default=0.9, type=float, metavar='M')
parser.add_argument('--wd', '--weight-decay', default=5e-4, type=float, metavar='W', dest='weight_decay')
parser.add_argument('--milestones', default=[8, 11], type=int, nargs='+', help='epochs at which to decay lr')
parser.add_argument('--variants', default=3, type=int, help='backgrounds per training digit')
parser.add_argument('-p', '--print-freq', default=20, type=int, metavar='N')
parser.add_argument('--seed', default=1, type=int)
parser.add_argument('--save-dir', default=tempfile.gettempdir(), type=str, metavar='PATH')


class DigitsM(Dataset):
    """Digits blended with random smooth backgrounds (3x16x16)."""

    def __init__(self, images, labels, variants, seed, train):
        rng = np.random.RandomState(seed)
        self.train = train
        self.labels = np.repeat(labels, variants)
        self.images = torch.from_numpy(np.stack(
            [self.blend(img, rng) for img in images for _ in range(variants)])).float()

    @staticmethod
    def blend(img, rng):
        canvas = np.zeros((16, 16))
        oy, ox = rng.randint(0, 5, size=2)
        canvas[oy:oy + 12, ox:ox + 12] = np.clip(zoom(img / 16.0, 1.5, order=1), 0, 1)
        noise = rng.normal(size=(3, 16, 16))
        noise = gaussian_filter(noise, sigma=(0, 1.5, 1.5))
        background = 0.5 + 0.22 * noise / noise.std() + rng.uniform(-0.25, 0.25, size=(3, 1, 1))
        return np.abs(np.clip(background, 0, 1) - 0.8 * canvas)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        img = (self.images[index] - self.mean) / self.std
        if self.train:
            img = F.pad(img, (2, 2, 2, 2))
            top, left = torch.randint(0, 5, (2,)).tolist()
            img = img[:, top:top + 16, left:left + 16]
        return img, int(self.labels[index])


def get_datasets(args):
    digits = load_digits()
    order = np.random.RandomState(args.seed).permutation(len(digits.target))
    images, labels = digits.images[order], digits.target[order]
    train_set = DigitsM(images[:1000], labels[:1000], args.variants, args.seed, train=True)
    val_set = DigitsM(images[1000:1330], labels[1000:1330], 1, args.seed + 1, train=False)
    test_set = DigitsM(images[1330:], labels[1330:], 1, args.seed + 2, train=False)
    mean = train_set.images.mean(dim=(0, 2, 3)).view(3, 1, 1)
    std = train_set.images.std(dim=(0, 2, 3)).view(3, 1, 1)
    for dataset in (train_set, val_set, test_set):
        dataset.mean, dataset.std = mean, std
    return train_set, val_set, test_set


class BasicBlock(nn.Module):
    def __init__(self, in_planes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_planes, planes, 1, stride=stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, widths=(12, 24, 48), num_classes=10):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        blocks, in_planes = [], widths[0]
        for i, planes in enumerate(widths):
            blocks.append(BasicBlock(in_planes, planes, stride=1 if i == 0 else 2))
            in_planes = planes
        self.blocks = nn.ModuleList(blocks)
        self.fc = nn.Linear(in_planes, num_classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        for block in self.blocks:
            x = block(x)
        return self.fc(x.mean(dim=(2, 3)))


class AverageMeter(object):
    def __init__(self):
        self.val, self.avg, self.sum, self.count = 0, 0, 0, 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target):
    pred = output.argmax(dim=1)
    return pred.eq(target).float().mean().item() * 100.0


def train(train_loader, model, criterion, optimizer, epoch, device, args):
    losses, top1 = AverageMeter(), AverageMeter()
    model.train()
    for i, (images, target) in enumerate(train_loader):
        images, target = images.to(device), target.to(device)
        output = model(images)
        loss = criterion(output, target)

        losses.update(loss.item(), images.size(0))
        top1.update(accuracy(output, target), images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if i % args.print_freq == 0:
            print(f'Epoch: [{epoch}][{i}/{len(train_loader)}]\t'
                  f'Loss {losses.val:.4f} ({losses.avg:.4f})\tPrec@1 {top1.val:.2f} ({top1.avg:.2f})')


def validate(loader, model, criterion, device):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            images, target = images.to(device), target.to(device)
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(accuracy(output, target), images.size(0))
    print(f' * Prec@1 {top1.avg:.3f} Loss {losses.avg:.4f}')
    return top1.avg


def main():
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')

    train_set, val_set, test_set = get_datasets(args)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=args.batch_size, shuffle=False)
    test_loader = DataLoader(test_set, batch_size=args.batch_size, shuffle=False)

    model = ResNet().to(device)
    criterion = nn.CrossEntropyLoss().to(device)
    optimizer = torch.optim.SGD(model.parameters(), args.lr,
                                momentum=args.momentum,
                                weight_decay=args.weight_decay)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=args.milestones, gamma=0.1)

    best_prec1, end = 0.0, time.time()
    best_path = os.path.join(args.save_dir, f'digitsm_best_{os.getpid()}.pth.tar')
    for epoch in range(args.epochs):
        train(train_loader, model, criterion, optimizer, epoch, device, args)
        prec1 = validate(val_loader, model, criterion, device)
        scheduler.step()

        if prec1 > best_prec1:
            best_prec1 = prec1
            torch.save({'epoch': epoch + 1, 'state_dict': model.state_dict(),
                        'best_prec1': best_prec1}, best_path)

    checkpoint = torch.load(best_path, map_location=device)
    model.load_state_dict(checkpoint['state_dict'])
    print(f"=> loaded best checkpoint (epoch {checkpoint['epoch']}, val prec@1 {checkpoint['best_prec1']:.2f})")
    test_prec1 = validate(test_loader, model, criterion, device)
    os.remove(best_path)
    print(f'Test Prec@1 {test_prec1:.2f}\tTime {time.time() - end:.1f}s')


if __name__ == '__main__':
    main()
