#!/usr/bin/env python3
""" Shapes Training Script

Mixup with soft targets, batches with as many samples of each class, AdamW without decay of norms and biases,
cosine schedule by update.
"""
import argparse
import copy
import logging
import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Sampler

from toydata import Shapes

_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='Shapes Training')
group = parser.add_argument_group('Optimizer parameters')
group.add_argument('--lr', type=float, default=4e-3)
group.add_argument('--weight-decay', type=float, default=0.02)
group.add_argument('--epochs', type=int, default=14)
group.add_argument('--warmup-updates', type=int, default=10)
group = parser.add_argument_group('Augmentation and regularization parameters')
group.add_argument('--mixup', type=float, default=0.2)
group.add_argument('--drop', type=float, default=0.1)
group.add_argument('--seed', type=int, default=42)


class ClassBatches(Sampler):
    """ Every batch holds `per_class` samples of each class, drawn anew in each epoch. """

    def __init__(self, targets, per_class):
        targets = np.asarray(targets)
        self.members = [np.flatnonzero(targets == c) for c in np.unique(targets)]
        self.per_class = per_class

    def __len__(self):
        return min(map(len, self.members)) // self.per_class

    def __iter__(self):
        rows = [np.random.permutation(m)[:len(self) * self.per_class].reshape(len(self), -1) for m in self.members]
        for parts in zip(*rows):
            yield np.random.permutation(np.concatenate(parts)).tolist()


class Mixup:
    def __init__(self, mixup_alpha, num_classes):
        self.mixup_alpha, self.num_classes = mixup_alpha, num_classes

    def __call__(self, x, target):
        lam = float(np.random.beta(self.mixup_alpha, self.mixup_alpha))
        target = F.one_hot(target, self.num_classes).float()
        order = torch.randperm(x.size(0))
        return lam * x + (1. - lam) * x[order], lam * target + (1. - lam) * target[order]


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ConvNormAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride=1):
        super().__init__(OrderedDict(
            conv=nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False), bn=nn.BatchNorm2d(out_chs), act=nn.SiLU()))


class TinyNet(nn.Module):
    def __init__(self, num_classes=6, chs=(16, 32, 48), drop_rate=0.):
        super().__init__()
        self.stem = ConvNormAct(3, chs[0])
        self.stages = nn.Sequential(
            ConvNormAct(chs[0], chs[1], 2), ConvNormAct(chs[1], chs[1]), ConvNormAct(chs[1], chs[2], 2))
        self.head_drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(chs[2] * 5 * 5, num_classes)

    def forward(self, x):
        x = self.stages(self.stem(x)).flatten(1)
        return self.classifier(self.head_drop(x))


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{'params': no_decay, 'weight_decay': 0.}, {'params': decay, 'weight_decay': weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, mixup_fn, lr_at):
    model.train()
    total, num_updates = 0., epoch * len(loader)
    for input, target in loader:
        input, target = mixup_fn(input, target)
        for param_group in optimizer.param_groups:
            param_group['lr'] = lr_at(num_updates)
        optimizer.zero_grad()
        loss = loss_fn(model(input), target)
        loss.backward()
        optimizer.step()
        num_updates += 1
        total += loss.item()
    return OrderedDict(loss=total / len(loader))


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    loss_sum, top1, seen = 0., 0, 0
    for input, target in loader:
        output = model(input)
        loss_sum += loss_fn(output, target).item() * len(target)
        top1 += (output.argmax(-1) == target).sum().item()
        seen += len(target)
    return OrderedDict(loss=loss_sum / seen, top1=100. * top1 / seen)


def main():
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    def normalize(image):
        return (image - 0.49) / 0.17

    dataset_train = Shapes(train=True, count=1000, size=20, transform=normalize)
    dataset_eval = Shapes(train=False, size=20, transform=normalize)
    loader_train = DataLoader(dataset_train, batch_sampler=ClassBatches(dataset_train.targets, 8))
    loader_eval = DataLoader(dataset_eval, batch_size=80)

    model = TinyNet(drop_rate=args.drop)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    updates = args.epochs * len(loader_train)

    def lr_at(t):
        if t < args.warmup_updates:
            return args.lr * (t + 1) / args.warmup_updates
        return 0.5 * args.lr * (1. + math.cos(math.pi * t / updates))

    mixup_fn = Mixup(args.mixup, 6)
    best_metric, best_state = -1., None
    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), mixup_fn, lr_at)
        eval_metrics = validate(model, loader_eval, nn.CrossEntropyLoss())
        if eval_metrics['top1'] > best_metric:
            best_metric, best_state = eval_metrics['top1'], copy.deepcopy(model.state_dict())
        _logger.info(f'{epoch:3d}  train {train_metrics["loss"]:.4f}  eval {eval_metrics["loss"]:.4f}  '
                     f'top1 {eval_metrics["top1"]:.2f}')
    model.load_state_dict(best_state)
    _logger.info(f'*** Best metric: {best_metric:.2f}')
    return model


if __name__ == '__main__':
    main()
