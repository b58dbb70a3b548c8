import argparse
import os
import random
import shutil
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
import torch.utils.data

parser = argparse.ArgumentParser(description='ImageNet-style training on drawn shapes')
parser.add_argument('--epochs', default=9, type=int, metavar='N', help='number of total epochs to run')
parser.add_argument('-b', '--batch-size', default=64, type=int, metavar='N')
parser.add_argument('--lr', '--learning-rate', default=0.1, type=float, metavar='LR', dest='lr')
parser.add_argument('--momentum', default=0.9, type=float, metavar='M', help='momentum')
parser.add_argument('--wd', '--weight-decay', default=1e-4, type=float, metavar='W', dest='weight_decay')
parser.add_argument('-p', '--print-freq', default=10, type=int, metavar='N')
parser.add_argument('--seed', default=7, type=int, help='seed for initializing training.')

best_acc1 = -1


def draw(name, rng, size=28):
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    cy, cx = rng.uniform(10, size - 10, 2)
    r = rng.uniform(5.0, 8.5)
    dy, dx = yy - cy, xx - cx
    rad, box = np.sqrt(dy ** 2 + dx ** 2), np.maximum(abs(dy), abs(dx))
    mask = {
        'ring': (rad < r) & (rad > r - 2.5),
        'disk': rad < r,
        'square': box < r * 0.9,
        'frame': (box < r * 0.9) & (box > r * 0.9 - 2.5),
        'plus': (box < r) & ((abs(dy) < 1.6) | (abs(dx) < 1.6)),
        'cross': (box < r) & ((abs(dy - dx) < 2) | (abs(dy + dx) < 2)),
        'wedge': (dy > -r) & (dy < r) & (abs(dx) < (dy + r) / 2),
        'bars': (box < r) & (np.floor(dy / 2.5) % 2 == 0),
    }[name]
    img = rng.uniform(0, 0.5, 3)[:, None, None] + mask[None] * rng.uniform(0.25, 0.5, 3)[:, None, None]
    return np.clip(img + rng.normal(0, 0.12, (3, size, size)), 0, 1).astype(np.float32)


def make_samples(per_class, seed):
    """(image, class name) pairs, listed one class after the other as a folder would be."""
    rng = np.random.RandomState(seed)
    names = ['ring', 'disk', 'square', 'frame', 'plus', 'cross', 'wedge', 'bars']
    return [(draw(name, rng), name) for name in names for _ in range(per_class)]


class ShapeFolder(torch.utils.data.Dataset):
    def __init__(self, samples, classes, mean=0.4, std=0.25):
        self.samples, self.classes = samples, classes
        self.class_to_idx = {c: i for i, c in enumerate(classes)}
        self.mean, self.std = mean, std

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        image, name = self.samples[i]
        return (torch.from_numpy(image) - self.mean) / self.std, self.class_to_idx[name]


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + self.downsample(x))


def resnet8(num_classes):
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU(inplace=True),
        BasicBlock(12, 16, 2), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, num_classes))


def main():
    global best_acc1
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    args.dir = tempfile.mkdtemp()

    samples = make_samples(220, args.seed)
    random.shuffle(samples)
    n_val = len(samples) // 4
    train_samples, val_samples = samples[:-n_val], samples[-n_val:]
    classes = sorted(set(name for _, name in samples))
    train_dataset = ShapeFolder(train_samples, classes)
    val_dataset = ShapeFolder(val_samples, classes)
    train_loader = torch.utils.data.DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = torch.utils.data.DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)

    model = resnet8(len(classes))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr,
                                momentum=args.momentum, weight_decay=args.weight_decay)

    for epoch in range(args.epochs):
        adjust_learning_rate(optimizer, epoch, args)
        train(train_loader, model, criterion, optimizer, epoch, args)
        acc1 = validate(val_loader, model, criterion)

        # remember best acc@1 and save checkpoint
        is_best = acc1 > best_acc1
        best_acc1 = max(acc1, best_acc1)
        save_checkpoint({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_acc1': best_acc1,
                         'optimizer': optimizer.state_dict()}, is_best, args.dir)

    checkpoint = torch.load(os.path.join(args.dir, 'model_best.pth.tar'))
    model.load_state_dict(checkpoint['state_dict'])
    print('=> loaded best checkpoint (epoch {})'.format(checkpoint['epoch']))
    validate(val_loader, model, criterion)
    shutil.rmtree(args.dir)


def train(train_loader, model, criterion, optimizer, epoch, args):
    batch_time = AverageMeter('Time', ':6.3f')
    losses = AverageMeter('Loss', ':.4e')
    top1 = AverageMeter('Acc@1', ':6.2f')
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)

        acc1, _ = accuracy(output, target, topk=(1, 3))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            print('Epoch: [{}][{}/{}]'.format(epoch, i, len(train_loader)), batch_time, losses, top1, sep='\t')


def validate(val_loader, model, criterion):
    losses = AverageMeter('Loss', ':.4e')
    top1 = AverageMeter('Acc@1', ':6.2f')
    top3 = AverageMeter('Acc@3', ':6.2f')
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            losses.update(criterion(output, target).item(), images.size(0))
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            top1.update(acc1.item(), images.size(0))
            top3.update(acc3.item(), images.size(0))
    print(' * Acc@1 {:.3f} Acc@3 {:.3f} Loss {:.4f}'.format(top1.avg, top3.avg, losses.avg))
    return top1.avg


def save_checkpoint(state, is_best, folder, filename='checkpoint.pth.tar'):
    torch.save(state, os.path.join(folder, filename))
    if is_best:
        shutil.copyfile(os.path.join(folder, filename), os.path.join(folder, 'model_best.pth.tar'))


class AverageMeter(object):
    """Computes and stores the average and current value"""
    def __init__(self, name, fmt=':f'):
        self.name, self.fmt = name, fmt
        self.val = self.avg = self.sum = self.count = 0

    def update(self, val, n=1):
        self.val = val
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count

    def __str__(self):
        return ('{name} {val' + self.fmt + '} ({avg' + self.fmt + '})').format(**self.__dict__)


def adjust_learning_rate(optimizer, epoch, args):
    """Sets the learning rate to the initial LR decayed by 10 every 3 epochs, after one warmup epoch"""
    lr = args.lr * (0.1 ** (max(epoch - 1, 0) // 3))
    if epoch < 1:
        lr = args.lr * 0.2
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr


def accuracy(output, target, topk=(1,)):
    """Computes the accuracy over the k top predictions for the specified values of k"""
    with torch.no_grad():
        maxk = max(topk)
        _, pred = output.topk(maxk, 1, True, True)
        pred = pred.t()
        correct = pred.eq(target.view(1, -1).expand_as(pred))
        return [correct[:k].reshape(-1).float().sum(0).mul_(100.0 / target.size(0)) for k in topk]


if __name__ == '__main__':
    main()
