import argparse
import os
import random
import shutil
import tempfile
import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, RandomSampler, Subset

from toydata import Shapes

parser = argparse.ArgumentParser(description='PyTorch ImageNet Training (small)')
parser.add_argument('-a', '--arch', metavar='ARCH', default='resnet8')
parser.add_argument('--epochs', default=10, type=int, metavar='N')
parser.add_argument('-b', '--batch-size', default=32, type=int)
parser.add_argument('--lr', '--learning-rate', default=0.05, type=float, dest='lr')
parser.add_argument('--momentum', default=0.9, type=float, metavar='M')
parser.add_argument('--wd', '--weight-decay', default=1e-4, type=float, dest='weight_decay')
parser.add_argument('-p', '--print-freq', default=5, type=int)
parser.add_argument('--min-scale', default=0.75, type=float, help='smallest area of the random crop')
parser.add_argument('--out', default='', type=str, help='checkpoint folder')
parser.add_argument('--seed', default=3, type=int)

MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
STD = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)


class RandomResizedCropFlip:
    def __init__(self, size, min_scale):
        self.size, self.min_scale = size, min_scale

    def __call__(self, img):
        area = random.uniform(self.min_scale, 1.0)
        side = max(2, round(self.size * area ** 0.5))
        i, j = random.randint(0, self.size - side), random.randint(0, self.size - side)
        img = img[:, i:i + side, j:j + side]
        img = F.interpolate(img[None], size=(self.size, self.size), mode='bilinear', align_corners=False)[0]
        if random.random() < 0.5:
            img = img.flip(-1)
        return (img - MEAN) / STD


def normalize(img):
    return (img - MEAN) / STD


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.downsample(x))


def resnet8(num_classes=6):
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True),
                         BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 32),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, num_classes))


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
    """Computes the accuracy over the k top predictions for the specified values of k"""
    with torch.no_grad():
        maxk = max(topk)
        _, pred = output.topk(maxk, 1, True, True)
        pred = pred.t()
        correct = pred.eq(target.view(1, -1).expand_as(pred))
        return [correct[:k].reshape(-1).float().sum(0).item() * 100.0 / target.size(0) for k in topk]


def train(train_loader, model, criterion, optimizer, epoch, args):
    losses, top1 = AverageMeter('Loss', ':.4f'), AverageMeter('Acc@1', ':6.2f')
    model.train()
    end = time.time()
    for i, (images, target) in enumerate(train_loader):
        output = model(images)
        loss = criterion(output, target)
        acc1, acc3 = accuracy(output, target, topk=(1, 3))
        losses.update(loss.item(), images.size(0))
        top1.update(acc1, images.size(0))
        # compute gradient and do SGD step
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if i % args.print_freq == 0:
            print(f'Epoch: [{epoch}][{i}/{len(train_loader)}] {losses} {top1} {time.time() - end:.1f}s')


def validate(val_loader, model, criterion):
    losses, top1, top3 = AverageMeter('Loss', ':.4f'), AverageMeter('Acc@1', ':6.2f'), AverageMeter('Acc@3', ':6.2f')
    # switch to evaluate mode
    model.eval()
    with torch.no_grad():
        for images, target in val_loader:
            output = model(images)
            loss = criterion(output, target)
            acc1, acc3 = accuracy(output, target, topk=(1, 3))
            losses.update(loss.item(), images.size(0))
            top1.update(acc1, images.size(0))
            top3.update(acc3, images.size(0))
    print(f' * Acc@1 {top1.avg:.3f} Acc@3 {top3.avg:.3f} Loss {losses.avg:.4f}')
    return losses.avg, top1.avg


def save_checkpoint(state, is_best, folder):
    filename = os.path.join(folder, 'checkpoint.pth.tar')
    torch.save(state, filename)
    if is_best:
        shutil.copyfile(filename, os.path.join(folder, 'model_best.pth.tar'))


def adjust_learning_rate(optimizer, epoch, args):
    """Sets the learning rate to the initial LR decayed by 10 every 7 epochs"""
    lr = args.lr * (0.1 ** (epoch // 7))
    for param_group in optimizer.param_groups:
        param_group['lr'] = lr


def main():
    args = parser.parse_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    folder = args.out or tempfile.mkdtemp()

    model = torch.nn.DataParallel(resnet8())
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)

    train_dataset = Shapes(train=True, transform=RandomResizedCropFlip(16, args.min_scale))
    val_dataset = Shapes(train=False, count=260, transform=normalize)
    # in the order of the classes, as ImageFolder has them
    val_dataset = Subset(val_dataset, sorted(range(len(val_dataset)), key=val_dataset.targets.__getitem__))
    train_loader = DataLoader(train_dataset, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_dataset, batch_size=args.batch_size, shuffle=False)

    best_loss = float('inf')
    for epoch in range(args.epochs):
        adjust_learning_rate(optimizer, epoch, args)
        train(train_loader, model, criterion, optimizer, epoch, args)
        val_loss, acc1 = validate(val_loader, model, criterion)
        # remember best loss and save checkpoint
        is_best = val_loss < best_loss
        best_loss = min(val_loss, best_loss)
        save_checkpoint({'epoch': epoch + 1, 'arch': args.arch, 'state_dict': model.state_dict(),
                         'best_loss': best_loss}, is_best, folder)

    checkpoint = torch.load(os.path.join(folder, 'model_best.pth.tar'))
    final = resnet8()
    state_dict = {k.replace('module.', '', 1): v for k, v in checkpoint['state_dict'].items()}
    final.load_state_dict(state_dict)
    print('=> loaded best checkpoint (epoch {})'.format(checkpoint['epoch']))
    validate(val_loader, final, criterion)


if __name__ == '__main__':
    main()
