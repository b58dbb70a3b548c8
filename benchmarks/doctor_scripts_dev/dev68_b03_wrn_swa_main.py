'''Wide ResNet with stochastic weight averaging on CIFAR-like images.'''
import argparse
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser(description='WideResNet SWA training')
parser.add_argument('--epochs', default=17, type=int)
parser.add_argument('--swa-start', default=13, type=int)
parser.add_argument('-b', '--batch-size', default=64, type=int)
parser.add_argument('--lr', default=0.6, type=float, help='learning rate for a batch of 256')
parser.add_argument('--wd', '--weight-decay', default=5e-4, type=float, dest='weight_decay')
parser.add_argument('--depth', default=10, type=int)
parser.add_argument('--seed', default=1, type=int)


class BasicBlock(nn.Module):
    def __init__(self, in_planes, out_planes, stride):
        super(BasicBlock, self).__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, out_planes, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_planes)
        self.conv2 = nn.Conv2d(out_planes, out_planes, 3, stride=1, padding=1, bias=False)
        self.equal_in_out = in_planes == out_planes
        self.shortcut = None if self.equal_in_out else nn.Conv2d(in_planes, out_planes, 1, stride=stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(x))
        residual = x if self.equal_in_out else self.shortcut(out)
        out = self.conv1(out)
        out = self.conv2(F.relu(self.bn2(out)))
        return residual + out


class WideResNet(nn.Module):
    def __init__(self, depth, num_classes, widen_factor=1):
        super(WideResNet, self).__init__()
        n = (depth - 4) // 6
        widths = [16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor]
        self.conv1 = nn.Conv2d(3, widths[0], 3, stride=1, padding=1, bias=False)
        blocks = []
        for i, stride in enumerate([1, 2, 2]):
            blocks.append(BasicBlock(widths[i], widths[i + 1], stride))
            blocks.extend(BasicBlock(widths[i + 1], widths[i + 1], 1) for _ in range(n - 1))
        self.blocks = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, mode='fan_out', nonlinearity='relu')
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        out = F.relu(self.bn(self.blocks(self.conv1(x))))
        out = F.adaptive_avg_pool2d(out, 1).flatten(1)
        return self.fc(out)


def criterion(output, target, smoothing=0.1):
    """Cross entropy with smoothed labels."""
    log_prob = F.log_softmax(output, dim=1)
    soft = torch.full_like(log_prob, smoothing / (output.size(1) - 1))
    soft.scatter_(1, target.unsqueeze(1), 1.0 - smoothing)
    return -(soft * log_prob).sum(dim=1).mean()


def make_images(n, num_classes=10, size=16, seed=0):
    """Smooth colour patterns, two looks per class, with clutter, shifts, mirror images and noise."""
    rng = np.random.RandomState(seed)

    def fields(k):
        low = torch.from_numpy(rng.randn(k, 3, 4, 4)).float()
        return F.interpolate(low, size=(size, size), mode='bicubic', align_corners=True).numpy()

    looks = fields(num_classes * 2).reshape(num_classes, 2, 3, size, size)
    labels = rng.permutation(np.arange(n) % num_classes)
    images = looks[labels, rng.randint(0, 2, n)] * rng.uniform(0.6, 1.2, (n, 1, 1, 1))
    images = images + 0.7 * fields(n) + 0.6 * rng.randn(n, 3, size, size)
    for i in range(n):
        images[i] = np.roll(images[i], rng.randint(-2, 3, 2), axis=(1, 2))
        if rng.rand() < 0.5:
            images[i] = images[i, :, :, ::-1].copy()
    return np.clip(127 + 45 * images, 0, 255).astype(np.uint8), labels


class ImageSet(Dataset):
    def __init__(self, images, labels, mean, std, train):
        self.images = (torch.from_numpy(images).float() / 255. - mean) / std
        self.labels = torch.from_numpy(labels).long()
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        img = self.images[index]
        if self.train:
            size = img.size(-1)
            img = F.pad(img, (2, 2, 2, 2))
            y, x = np.random.randint(0, 5, 2)
            img = img[:, y:y + size, x:x + size]
            if np.random.rand() < 0.5:
                img = img.flip(2)
        return img, self.labels[index]


class AverageMeter(object):
    def __init__(self):
        self.sum, self.count, self.avg = 0., 0, 0.

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n
        self.avg = self.sum / self.count


def accuracy(output, target, topk=(1,)):
    """Computes the precision@k for the specified values of k"""
    maxk = max(topk)
    batch_size = target.size(0)
    _, pred = output.topk(maxk, 1, True, True)
    correct = pred.t().eq(target.view(1, -1).expand(maxk, batch_size))
    return [correct[:k].reshape(-1).float().sum().item() * 100.0 / batch_size for k in topk]


def train(loader, model, optimizer, epoch):
    losses = AverageMeter()
    model.train()
    for input, target in loader:
        loss = criterion(model(input), target)
        losses.update(loss.item(), input.size(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print('Epoch: [{}]\tTrain loss {:.4f}'.format(epoch, losses.avg))


def validate(loader, model):
    losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
    model.eval()
    with torch.no_grad():
        for input, target in loader:
            output = model(input)
            prec1, prec5 = accuracy(output, target, topk=(1, 5))
            losses.update(criterion(output, target).item(), input.size(0))
            top1.update(prec1, input.size(0))
            top5.update(prec5, input.size(0))
    return losses.avg, top1.avg, top5.avg


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    best_path = os.path.join(tempfile.mkdtemp(prefix='wrn_swa_'), 'model_best.pth.tar')

    images, labels = make_images(2600)
    mean, std = images[:1600].mean((0, 2, 3)) / 255., images[:1600].std((0, 2, 3)) / 255.
    mean, std = [torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (mean, std)]
    train_loader = DataLoader(ImageSet(images[:1600], labels[:1600], mean, std, True), args.batch_size, shuffle=True)
    val_loader = DataLoader(ImageSet(images[1600:2000], labels[1600:2000], mean, std, False), 200)
    test_loader = DataLoader(ImageSet(images[2000:], labels[2000:], mean, std, False), 200)

    model = WideResNet(args.depth, 10)
    swa_model = AveragedModel(model)
    lr = args.lr * args.batch_size / 256
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=args.weight_decay, nesterov=True)
    milestones = [int(args.epochs * 0.5), int(args.epochs * 0.75)]
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)

    best_prec1 = 0.
    for epoch in range(args.epochs):
        train(train_loader, model, optimizer, epoch)
        scheduler.step()
        if epoch >= args.swa_start:
            swa_model.update_parameters(model)
        loss, prec1, prec5 = validate(val_loader, model)
        print(' * Val loss {:.4f} Prec@1 {:.2f} Prec@5 {:.2f}'.format(loss, prec1, prec5))
        if prec1 > best_prec1:
            best_prec1 = prec1
            torch.save({'epoch': epoch + 1, 'state_dict': model.state_dict(), 'best_prec1': prec1}, best_path)

    update_bn(train_loader, swa_model)
    model.load_state_dict(torch.load(best_path)['state_dict'])
    for name, net in (('SWA', swa_model), ('Best', model)):
        loss, prec1, prec5 = validate(test_loader, net)
        print('{} test: loss {:.4f} Prec@1 {:.2f} Prec@5 {:.2f}'.format(name, loss, prec1, prec5))


if __name__ == '__main__':
    main()
