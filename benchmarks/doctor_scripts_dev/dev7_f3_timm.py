#!/usr/bin/env python3
"""Training script in the manner of timm's train.py (AdamW, mixup, EMA, warmup + cosine, AMP)."""
import argparse
import copy
import logging
import math
import time
from contextlib import suppress

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

logging.basicConfig(level=logging.INFO, format='%(message)s')
_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='PyTorch training')
parser.add_argument('--epochs', type=int, default=8)
parser.add_argument('-b', '--batch-size', type=int, default=64)
parser.add_argument('--lr', type=float, default=3e-3)
parser.add_argument('--min-lr', type=float, default=1e-5)
parser.add_argument('--warmup-lr', type=float, default=1e-5)
parser.add_argument('--warmup-epochs', type=int, default=1)
parser.add_argument('--weight-decay', type=float, default=0.05)
parser.add_argument('--clip-grad', type=float, default=5.0)
parser.add_argument('--mixup', type=float, default=0.2)
parser.add_argument('--smoothing', type=float, default=0.1)
parser.add_argument('--model-ema-decay', type=float, default=0.95)
parser.add_argument('--amp', action='store_true', default=True)
parser.add_argument('--seed', type=int, default=42)


def create_dataset(n, seed):
    """Eight kinds of 24x24 RGB glyphs (a bar or a wedge in one of four directions) over clutter."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:24j, -1:1:24j]
    labels = rng.integers(0, 8, n)
    imgs = np.empty((n, 3, 24, 24), np.float32)
    for k, c in enumerate(labels):
        a = (c % 4) * np.pi / 4 + rng.normal(0, .12)
        u, v = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
        u, v = u - rng.uniform(-.25, .25), v - rng.uniform(-.25, .25)
        g = (abs(v) < .15) & (abs(u) < .7) if c < 4 else (abs(v) < .35 * (u + .6)) & (abs(u) < .6)
        col = rng.uniform(.4, 1, 3)[:, None, None]
        imgs[k] = .3 + g * col * .35 + rng.normal(0, .25, (3, 24, 24))
    x = torch.from_numpy(imgs)
    x = (x - 0.327) / 0.262
    return TensorDataset(x, torch.from_numpy(labels))


class ConvNormAct(nn.Sequential):
    def __init__(self, cin, cout, stride=1, groups=1):
        super().__init__(nn.Conv2d(cin, cout, 3, stride, 1, groups=groups, bias=False),
                         nn.BatchNorm2d(cout), nn.SiLU())


class SmallNet(nn.Module):
    def __init__(self, num_classes=8, drop_rate=0.1):
        super().__init__()
        self.stem = ConvNormAct(3, 24, 2)
        self.stages = nn.Sequential(ConvNormAct(24, 48, 2), ConvNormAct(48, 48), ConvNormAct(48, 96, 2))
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(96, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.stages(self.stem(x))
        return self.head(self.head_drop(x.mean((2, 3))))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        if not param.requires_grad:
            continue
        if param.ndim <= 1 or name.endswith('.bias'):
            no_decay.append(param)
        else:
            decay.append(param)
    return [{'params': no_decay, 'weight_decay': 0.}, {'params': decay, 'weight_decay': weight_decay}]


def create_optimizer(args, model):
    return torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t, warmup_lr_init):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init, self.base = warmup_t, warmup_lr_init, optimizer.param_groups[0]['lr']
        self.step_update(0)

    def step_update(self, t):
        if t < self.warmup_t:
            lr = self.warmup_lr_init + (self.base - self.warmup_lr_init) * t / self.warmup_t
        elif t < self.t_initial:
            lr = self.lr_min + 0.5 * (self.base - self.lr_min) * (1 + math.cos(math.pi * t / self.t_initial))
        else:
            lr = self.lr_min
        for group in self.optimizer.param_groups:
            group['lr'] = lr


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module, self.decay = copy.deepcopy(model).eval(), decay

    @torch.no_grad()
    def update(self, model):
        for e, m in zip(self.module.state_dict().values(), model.state_dict().values()):
            e.copy_(self.decay * e + (1 - self.decay) * m if e.is_floating_point() else m)


def mixup_batch(x, target, num_classes, alpha, smoothing):
    off = smoothing / num_classes
    y = torch.full((len(x), num_classes), off).scatter_(1, target[:, None], 1 - smoothing + off)
    lam = float(np.random.beta(alpha, alpha)) if alpha > 0 else 1.0
    return x * lam + x.flip(0) * (1 - lam), y * lam + y.flip(0) * (1 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, amp_autocast, model_ema):
    model.train()
    num_updates, total, start = epoch * len(loader), 0., time.time()
    for input, target in loader:
        input, target = mixup_batch(input, target, 8, args.mixup, args.smoothing)
        with amp_autocast():
            output = model(input)
        loss = loss_fn(output.float(), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
        total += loss.item()
    _logger.info('Train: %d  Loss: %.4f  LR: %.2e  %.1fs', epoch, total / len(loader),
                 optimizer.param_groups[0]['lr'], time.time() - start)


@torch.no_grad()
def validate(model, loader, log_suffix=''):
    model.eval()
    correct, count, loss = 0, 0, 0.
    for input, target in loader:
        output = model(input).float()
        loss += F.cross_entropy(output, target, reduction='sum').item()
        correct += (output.argmax(1) == target).sum().item()
        count += len(target)
    _logger.info('Test%s  Loss: %.4f  Acc@1: %.2f', log_suffix, loss / count, 100 * correct / count)
    return 100 * correct / count


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    loader_train = DataLoader(create_dataset(1280, 0), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(create_dataset(400, 1), 100)

    model = SmallNet()
    amp_autocast = (lambda: torch.autocast('cpu', dtype=torch.bfloat16)) if args.amp else suppress
    optimizer = create_optimizer(args, model)
    model_ema = ModelEma(model, args.model_ema_decay)
    updates = len(loader_train)
    lr_scheduler = CosineLRScheduler(optimizer, args.epochs * updates, args.min_lr,
                                     args.warmup_epochs * updates, args.warmup_lr)
    loss_fn = SoftTargetCrossEntropy()
    best = 0.
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, loss_fn, args, lr_scheduler, amp_autocast, model_ema)
        validate(model, loader_eval)
        best = max(best, validate(model_ema.module, loader_eval, log_suffix=' (EMA)'))
    _logger.info('*** Best metric: %.2f', best)


if __name__ == '__main__':
    main()
