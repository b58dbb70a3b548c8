#!/usr/bin/env python3
""" Small training script: mixup, label smoothing, EMA, cosine schedule with warmup, native amp scaler. """
import argparse
import copy
import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description='Training')
parser.add_argument('--num-classes', type=int, default=10)
parser.add_argument('--batch-size', type=int, default=40)
parser.add_argument('--grad-accum-steps', type=int, default=2)
parser.add_argument('--epochs', type=int, default=12)
parser.add_argument('--lr', type=float, default=0.1)
parser.add_argument('--min-lr', type=float, default=1e-4)
parser.add_argument('--warmup-updates', type=int, default=20)
parser.add_argument('--weight-decay', type=float, default=2e-4)
parser.add_argument('--clip-grad', type=float, default=2.0)
parser.add_argument('--mixup', type=float, default=0.4)
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--model-ema-decay', type=float, default=0.95)
parser.add_argument('--seed', type=int, default=42)


class Backbone(nn.Module):
    def __init__(self, num_classes=1000, dims=(16, 32, 64)):
        super().__init__()
        layers, prev = [], 1
        for d in dims:
            layers += [nn.Conv2d(prev, d, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(d), nn.SiLU()]
            prev = d
        self.features = nn.Sequential(*layers)
        self.num_features = prev * 4
        self.fc = nn.Linear(self.num_features, num_classes)

    def reset_classifier(self, num_classes):
        self.fc = nn.Linear(self.num_features, num_classes)

    def forward(self, x):
        return self.fc(self.features(x).flatten(1))


def one_hot(target, num_classes, smoothing):
    off = smoothing / num_classes
    return torch.full((len(target), num_classes), off).scatter_(1, target[:, None], 1. - smoothing + off)


class Mixup:
    def __init__(self, alpha, num_classes, smoothing):
        self.alpha, self.num_classes, self.smoothing = alpha, num_classes, smoothing

    def __call__(self, x, target):
        lam = np.random.beta(self.alpha, self.alpha)
        x = x * lam + x.flip(0) * (1. - lam)
        y1 = one_hot(target, self.num_classes, self.smoothing)
        y2 = one_hot(target.flip(0), self.num_classes, self.smoothing)
        return x, y1 * lam + y2 * (1. - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.is_floating_point():
                ema_v.lerp_(model_v, 1. - self.decay)
            else:
                ema_v.copy_(model_v)


class NativeScaler:
    def __init__(self):
        self._scaler = torch.amp.GradScaler('cpu')

    def __call__(self, loss, optimizer, clip_grad, parameters, need_update=True):
        self._scaler.scale(loss).backward()
        if need_update:
            self._scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
            self._scaler.step(optimizer)
            self._scaler.update()


class CosineScheduler:
    def __init__(self, optimizer, total, warmup, min_lr):
        self.optimizer, self.total, self.warmup, self.min_lr = optimizer, total, warmup, min_lr
        self.base = [g['lr'] for g in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, t):
        for g, base in zip(self.optimizer.param_groups, self.base):
            if t < self.warmup:
                g['lr'] = base * (t + 1) / self.warmup
            else:
                p = (t - self.warmup) / max(1, self.total - self.warmup)
                g['lr'] = self.min_lr + 0.5 * (base - self.min_lr) * (1 + math.cos(math.pi * min(p, 1.)))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim <= 1 else decay).append(p)
    return [{'params': no_decay, 'weight_decay': 0.}, {'params': decay, 'weight_decay': weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, scheduler, loss_scaler, model_ema, mixup_fn):
    model.train()
    updates_per_epoch = len(loader) // args.grad_accum_steps
    num_updates = epoch * updates_per_epoch
    total = 0.
    optimizer.zero_grad()
    for batch_idx, (input, target) in enumerate(loader):
        need_update = (batch_idx + 1) % args.grad_accum_steps == 0
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target)
        total += loss.item()
        loss = loss / args.grad_accum_steps
        loss_scaler(loss, optimizer, args.clip_grad, model.parameters(), need_update=need_update)
        if need_update:
            optimizer.zero_grad()
            model_ema.update(model)
            num_updates += 1
            scheduler.step_update(num_updates)
    return OrderedDict(loss=total / len(loader), lr=optimizer.param_groups[0]['lr'])


@torch.no_grad()
def validate(model, loader):
    model.eval()
    top1 = sum((model(input).argmax(1) == target).sum().item() for input, target in loader)
    return 100. * top1 / len(loader.dataset)


def main():
    args = parser.parse_args()
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    model = Backbone()
    model.reset_classifier(args.num_classes)
    optimizer = torch.optim.SGD(param_groups_weight_decay(model, args.weight_decay), lr=args.lr, momentum=0.9, nesterov=True)
    model_ema = ModelEma(model, args.model_ema_decay)

    transform = lambda img: (img.float() / 255. - 0.2) / 0.3
    loader_train = DataLoader(Digits(train=True, transform=transform), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Digits(train=False, transform=transform), args.batch_size)
    scheduler = CosineScheduler(optimizer, args.epochs * (len(loader_train) // args.grad_accum_steps), args.warmup_updates, args.min_lr)
    mixup_fn = Mixup(args.mixup, args.num_classes, args.smoothing)
    loss_scaler = NativeScaler()

    best = 0.
    for epoch in range(args.epochs):
        metrics = train_one_epoch(epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), args,
                                  scheduler, loss_scaler, model_ema, mixup_fn)
        top1 = validate(model_ema.module, loader_eval)
        best = max(best, top1)
        print(f"epoch {epoch} loss {metrics['loss']:.4f} lr {metrics['lr']:.5f} ema top1 {top1:.2f}")
    print(f'*** Best metric: {best:.2f}')


if __name__ == '__main__':
    main()
