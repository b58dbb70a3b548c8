"""Image classification from class folders, after pytorch/examples/imagenet."""
import argparse
import os
import random
import shutil
import tempfile
import time

import numpy as np
import torch
import torch.nn as nn
from PIL import Image
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, Dataset

CLASSES = ['blue_dots', 'blue_ring', 'blue_stripe', 'red_dots', 'red_ring', 'red_stripe']
MEAN, STD = (0.318, 0.315, 0.317), (0.261, 0.254, 0.262)


def draw(name, rng, size=40):
    """One picture of a class: a shape on a gradient, tinted bluish or reddish, with noise."""
    tint, shape = name.split('_')
    y, x = np.mgrid[:size, :size].astype(float)
    f, p = rng.uniform(0.5, 0.9), rng.uniform(0, 6.28, 2)
    cy, cx = rng.uniform(14, 26, 2)
    r = np.hypot(y - cy, x - cx)
    a = rng.uniform(0, np.pi)
    g = {'dots': np.sin(f * y + p[0]) + np.sin(f * x + p[1]) > 1.1,
         'ring': (r > 8) & (r < 12),
         'stripe': np.sin(f * (y * np.cos(a) + x * np.sin(a)) + p[0]) > 0.3}[shape]
    color = np.array((.30, .40, .55) if tint == 'blue' else (.55, .40, .30)) + rng.normal(0, .09, 3)
    img = rng.uniform(.1, .3) + rng.uniform(-.004, .004) * x[..., None] + g[..., None] * color
    img = img + rng.normal(0, 0.2, (size, size, 3))
    return Image.fromarray((img.clip(0, 1) * 255).astype('uint8'))


def make_folders(root):
    rng = np.random.default_rng(7)
    for split, per_class in (('train', 100), ('val', 40)):
        for name in CLASSES:
            os.makedirs(os.path.join(root, split, name))
            for i in range(per_class):
                draw(name, rng).save(os.path.join(root, split, name, '%s_%05d.png' % (name, i)))


class ImageFolder(Dataset):
    def __init__(self, root, transform=None):
        self.classes = sorted(e.name for e in os.scandir(root) if e.is_dir())
        self.class_to_idx = {c: i for i, c in enumerate(self.classes)}
        self.samples = [(os.path.join(root, c, f), self.class_to_idx[c])
                        for c in self.classes for f in sorted(os.listdir(os.path.join(root, c)))]
        self.transform = transform

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, i):
        path, target = self.samples[i]
        img = Image.open(path).convert('RGB')
        return self.transform(img), target


def to_tensor(img):
    t = torch.from_numpy(np.array(img)).permute(2, 0, 1).float() / 255
    return (t - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def train_transform(img, size=32, scale=(0.4, 1.0)):
    """RandomResizedCrop and RandomHorizontalFlip."""
    w, h = img.size
    side = min(w, int(round((w * h * random.uniform(*scale)) ** 0.5)))
    i, j = random.randint(0, h - side), random.randint(0, w - side)
    img = img.crop((j, i, j + side, i + side)).resize((size, size), Image.BILINEAR)
    if random.random() < 0.5:
        img = img.transpose(Image.FLIP_LEFT_RIGHT)
    return to_tensor(img)


def val_transform(img, size=32):
    w, h = img.size
    i, j = (h - size) // 2, (w - size) // 2
    return to_tensor(img.crop((j, i, j + size, i + size)))


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.downsample = None
        if stride != 1 or cin != cout:
            self.downsample = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(out)) + identity)


class ResNet(nn.Module):
    def __init__(self, num_classes, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1 = BasicBlock(width, width, 2)
        self.layer2 = BasicBlock(width, 2 * width, 2)
        self.layer3 = BasicBlock(2 * width, 4 * width, 2)
        self.fc = nn.Linear(4 * width, num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(x.mean((2, 3)))


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


def accuracy(output, target, topk=(1,)):
    with torch.no_grad():
        maxk, batch_size = max(topk), target.size(0)
        _, pred = output.topk(maxk, 1, True, True)
        correct = pred.t().eq(target.view(1, -1).expand(maxk, batch_size))
        return [correct[:k].reshape(-1).float().sum() * (100.0 / batch_size) for k in topk]


def train(loader, model, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter('Loss', ':.4f'), AverageMeter('Acc@1', ':6.2f')
    batch_time, end = AverageMeter('Time', ':6.3f'), time.time()
    model.train()
    for i, (images, target) in enumerate(loader):
        output = model(images)
        loss = criterion(output, target)
        acc1, = accuracy(output, target)
        losses.update(loss.item(), images.size(0))
        top1.update(acc1.item(), images.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        batch_time.update(time.time() - end)
        end = time.time()
        if i % args.print_freq == 0:
            print('Epoch: [%d][%2d/%d]' % (epoch, i, len(loader)), batch_time, losses, top1, sep='\t')


def validate(loader, model, criterion):
    losses, top1, top3 = (AverageMeter(n, ':6.2f') for n in ('Loss', 'Acc@1', 'Acc@3'))
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            output = model(images)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(criterion(output, target).item(), images.size(0))
            top1.update(acc1.item(), images.size(0))
            top3.update(acc3.item(), images.size(0))
    print(' * Acc@1 {:.3f} Acc@3 {:.3f} Loss {:.4f}'.format(top1.avg, top3.avg, losses.avg))
    return top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, 'checkpoint.pth.tar')
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, 'model_best.pth.tar'))


def main():
    parser = argparse.ArgumentParser(description='ImageNet-style training')
    parser.add_argument('--epochs', default=6, type=int)
    parser.add_argument('-b', '--batch-size', default=32, type=int)
    parser.add_argument('--lr', '--learning-rate', default=0.05, type=float, dest='lr')
    parser.add_argument('--momentum', default=0.9, type=float)
    parser.add_argument('--wd', '--weight-decay', default=1e-4, type=float, dest='weight_decay')
    parser.add_argument('-p', '--print-freq', default=10, type=int)
    parser.add_argument('--seed', default=1, type=int)
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    best_acc1 = 0

    with tempfile.TemporaryDirectory() as data:
        make_folders(data)
        train_dataset = ImageFolder(os.path.join(data, 'train'), train_transform)
        val_dataset = ImageFolder(os.path.join(data, 'val'), val_transform)
        train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
        val_loader = DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)

        model = ResNet(num_classes=len(train_dataset.classes))
        criterion = nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum,
                                    weight_decay=args.weight_decay)
        scheduler = StepLR(optimizer, step_size=3, gamma=0.1)

        for epoch in range(args.epochs):
            train(train_loader, model, criterion, optimizer, epoch, args)
            acc1 = validate(val_loader, model, criterion)
            scheduler.step()
            is_best = acc1 > best_acc1
            best_acc1 = max(acc1, best_acc1)
            save_checkpoint({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_acc1': best_acc1,
                             'optimizer': optimizer.state_dict()}, is_best, data)

        best = torch.load(os.path.join(data, 'model_best.pth.tar'))
        model.load_state_dict(best['state_dict'])
        print('=> best checkpoint, epoch %d' % best['epoch'])
        validate(val_loader, model, criterion)


if __name__ == '__main__':
    main()
