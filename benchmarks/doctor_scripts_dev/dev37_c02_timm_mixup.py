#!/usr/bin/env python3
""" Shapes training script, after timm's train.py

Mixup, label smoothing, warmup + cosine per update, and an exponential moving average of the weights.
"""
import argparse
import copy
import math
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

parser = argparse.ArgumentParser(description='Shapes Training')
parser.add_argument('--epochs', type=int, default=14)
parser.add_argument('-b', '--batch-size', type=int, default=64)
parser.add_argument('--lr', type=float, default=0.08)
parser.add_argument('--warmup-epochs', type=int, default=2)
parser.add_argument('--weight-decay', type=float, default=2e-4)
parser.add_argument('--mixup', type=float, default=0.2)
parser.add_argument('--smoothing', type=float, default=0.05)
parser.add_argument('--clip-grad', type=float, default=5.0)
parser.add_argument('--model-ema-decay', type=float, default=0.95)
parser.add_argument('--seed', type=int, default=42)


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
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.bn2(self.conv2(x))
        return F.relu(x + shortcut)


class TinyResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(16, 16), BasicBlock(16, 32, 2), BasicBlock(32, 64, 2))
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(decay * ema_v + (1. - decay) * model_v)


class Transform:
    mean = torch.tensor([0.5, 0.45, 0.5]).view(3, 1, 1)
    std = torch.tensor([0.18, 0.14, 0.18]).view(3, 1, 1)

    def __init__(self, is_training):
        self.is_training = is_training

    def __call__(self, img):
        if self.is_training and torch.rand(()) < 0.5:
            img = img.flip(-1)
        return (img - self.mean) / self.std


def train_one_epoch(model, loader, optimizer, loss_fn, lr_scheduler, model_ema, args):
    model.train()
    total, count = 0., 0
    for input, target in loader:
        lam = float(np.random.beta(args.mixup, args.mixup))
        perm = torch.randperm(len(input))
        input = lam * input + (1. - lam) * input[perm]
        output = model(input)
        loss = lam * loss_fn(output, target) + (1. - lam) * loss_fn(output, target[perm])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        lr_scheduler.step()
        total += loss.item() * len(input)
        count += len(input)
    return total / count


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss, correct = 0., 0
    for input, target in loader:
        output = model(input)
        loss += F.cross_entropy(output, target, reduction='sum').item()
        correct += (output.argmax(1) == target).sum().item()
    return {'loss': loss / len(loader.dataset), 'top1': 100. * correct / len(loader.dataset)}


def main():
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    loader_train = DataLoader(Shapes(True, transform=Transform(True)), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(False, transform=Transform(False)), 120)

    model = TinyResNet(num_classes=len(NAMES))
    model_ema = ModelEma(model, args.model_ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=0.9, nesterov=True,
                                weight_decay=args.weight_decay)
    warmup, updates = args.warmup_epochs * len(loader_train), args.epochs * len(loader_train)

    def factor(update):
        if update < warmup:
            return (update + 1) / warmup
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (update - warmup) / (updates - warmup)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    train_loss_fn = nn.CrossEntropyLoss(label_smoothing=args.smoothing)

    best_metric, checkpoint = None, os.path.join(tempfile.mkdtemp(), 'model_best.pth.tar')
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(model, loader_train, optimizer, train_loss_fn, lr_scheduler, model_ema, args)
        metrics, ema_metrics = validate(model, loader_eval), validate(model_ema.module, loader_eval)
        if best_metric is None or ema_metrics['top1'] > best_metric:
            best_metric = ema_metrics['top1']
            torch.save({'epoch': epoch, 'state_dict_ema': model_ema.module.state_dict()}, checkpoint)
        print(f"epoch {epoch}: train {train_loss:.4f}  eval {metrics['loss']:.4f} / {metrics['top1']:.2f}%"
              f"  ema {ema_metrics['loss']:.4f} / {ema_metrics['top1']:.2f}%")
    print(f'*** Best metric: {best_metric:.2f}')


if __name__ == '__main__':
    main()
