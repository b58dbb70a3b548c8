#!/usr/bin/env python3
""" Image training script in the manner of pytorch-image-models: mixup, EMA of the weights, cosine with warmup. """
import argparse
import logging
import math
from collections import OrderedDict
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='PyTorch image training')
parser.add_argument('--num-classes', type=int, default=10)
parser.add_argument('--epochs', type=int, default=18)
parser.add_argument('-b', '--batch-size', type=int, default=64)
parser.add_argument('--lr', type=float, default=3e-3)
parser.add_argument('--min-lr', type=float, default=1e-5)
parser.add_argument('--warmup-epochs', type=int, default=1)
parser.add_argument('--weight-decay', type=float, default=0.02)
parser.add_argument('--hflip', type=float, default=0., help='Horizontal flip training aug probability')
parser.add_argument('--vflip', type=float, default=0., help='Vertical flip training aug probability')
parser.add_argument('--mixup', type=float, default=0.2, help='mixup alpha')
parser.add_argument('--mixup-prob', type=float, default=0.5)
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--model-ema-decay', type=float, default=0.98)
parser.add_argument('--seed', type=int, default=42)


class TrainTransform:
    def __init__(self, hflip, vflip, mean=0.17, std=0.31):
        self.hflip, self.vflip, self.mean, self.std = hflip, vflip, mean, std

    def __call__(self, img):
        if np.random.rand() < self.hflip:
            img = img.flip(-1)
        if np.random.rand() < self.vflip:
            img = img.flip(-2)
        dy, dx = np.random.randint(-1, 2, 2)
        img = torch.roll(img, (int(dy), int(dx)), dims=(-2, -1))
        return (img.float() / 255 - self.mean) / self.std


class EvalTransform:
    def __init__(self, mean=0.17, std=0.31):
        self.mean, self.std = mean, std

    def __call__(self, img):
        return (img.float() / 255 - self.mean) / self.std


def mixup_target(target, num_classes, lam=1., smoothing=0.0):
    off_value = smoothing / num_classes
    on_value = 1. - smoothing + off_value
    y1 = F.one_hot(target, num_classes).float() * (on_value - off_value) + off_value
    y2 = F.one_hot(target.flip(0), num_classes).float() * (on_value - off_value) + off_value
    return y1 * lam + y2 * (1. - lam)


class Mixup:
    def __init__(self, alpha, prob, smoothing, num_classes):
        self.alpha, self.prob, self.smoothing, self.num_classes = alpha, prob, smoothing, num_classes

    def __call__(self, x, target):
        lam = np.random.beta(self.alpha, self.alpha) if np.random.rand() < self.prob else 1.
        x = x * lam + x.flip(0) * (1. - lam)
        return x, mixup_target(target, self.num_classes, lam, self.smoothing)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = deepcopy(model).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(decay * ema_v + (1. - decay) * model_v)


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t):
        self.optimizer, self.t_initial, self.lr_min, self.warmup_t = optimizer, t_initial, lr_min, warmup_t
        self.base = [group['lr'] for group in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        for base, group in zip(self.base, self.optimizer.param_groups):
            if num_updates < self.warmup_t:
                group['lr'] = base * (num_updates + 1) / self.warmup_t
            else:
                t = min(1., (num_updates - self.warmup_t) / max(1, self.t_initial - self.warmup_t))
                group['lr'] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t))


def conv_bn_act(in_chs, out_chs, stride=1):
    return nn.Sequential(
        nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False), nn.BatchNorm2d(out_chs), nn.SiLU())


def create_model(num_classes):
    return nn.Sequential(OrderedDict([
        ('stem', conv_bn_act(1, 24)),
        ('stage1', conv_bn_act(24, 24)),
        ('stage2', conv_bn_act(24, 48, 2)),
        ('stage3', conv_bn_act(48, 96, 2)),
        ('pool', nn.Flatten()),
        ('drop', nn.Dropout(0.2)),
        ('classifier', nn.Linear(96 * 4 * 4, num_classes)),
    ]))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, scheduler, mixup_fn, model_ema):
    model.train()
    num_updates = epoch * len(loader)
    total, count = 0., 0
    for input, target in loader:
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        scheduler.step_update(num_updates)
        total += loss.item() * input.size(0)
        count += input.size(0)
    return OrderedDict([('loss', total / count)])


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    loss, correct, count = 0., 0, 0
    for input, target in loader:
        output = model(input)
        loss += loss_fn(output, target).item() * input.size(0)
        correct += (output.argmax(dim=-1) == target).sum().item()
        count += input.size(0)
    return OrderedDict([('loss', loss / count), ('top1', 100. * correct / count)])


def main():
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    model = create_model(args.num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    model_ema = ModelEma(model, decay=args.model_ema_decay)

    dataset_train = Digits(train=True, count=2000, transform=TrainTransform(args.hflip, args.vflip))
    dataset_eval = Digits(train=False, count=500, transform=EvalTransform())
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=128, shuffle=False)

    mixup_fn = Mixup(args.mixup, args.mixup_prob, args.smoothing, args.num_classes)
    updates_per_epoch = len(loader_train)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=args.epochs * updates_per_epoch, lr_min=args.min_lr,
        warmup_t=args.warmup_epochs * updates_per_epoch)

    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(
            epoch, model, loader_train, optimizer, SoftTargetCrossEntropy(), scheduler, mixup_fn, model_ema)
        eval_metrics = validate(model_ema.module, loader_eval, nn.CrossEntropyLoss())
        _logger.info('Epoch %d: train loss %.4f  eval (EMA) loss %.4f  top1 %.2f',
                     epoch, train_metrics['loss'], eval_metrics['loss'], eval_metrics['top1'])


if __name__ == '__main__':
    main()
