import argparse
import math
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

parser = argparse.ArgumentParser(description='Image training')
parser.add_argument('--num-classes', type=int, default=6)
parser.add_argument('-b', '--batch-size', type=int, default=24)
parser.add_argument('--epochs', type=int, default=12)
parser.add_argument('--warmup-epochs', type=int, default=2)
parser.add_argument('--warmup-lr', type=float, default=1e-5)
parser.add_argument('--lr', type=float, default=2e-3)
parser.add_argument('--weight-decay', type=float, default=0.02)
parser.add_argument('--clip-grad', type=float, default=5.0)
parser.add_argument('--mixup', type=float, default=0.2)
parser.add_argument('--model-ema-decay', type=float, default=0.97)
parser.add_argument('--seed', type=int, default=42)


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0., 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def conv_norm_act(in_chs, out_chs, stride=1):
    conv = nn.Conv2d(in_chs, out_chs, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_chs), nn.SiLU(inplace=True))


class TinyConvNet(nn.Module):
    def __init__(self, num_classes, drop_rate=0.1):
        super().__init__()
        self.stem = conv_norm_act(3, 16)
        self.stages = nn.Sequential(conv_norm_act(16, 32, 2), conv_norm_act(32, 48, 2), conv_norm_act(48, 48))
        self.head_drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        x = self.stages(self.stem(x)).mean((2, 3))
        return self.fc(self.head_drop(x))


class Mixup:
    def __init__(self, alpha, num_classes, label_smoothing=0.1):
        self.alpha, self.num_classes, self.smoothing = alpha, num_classes, label_smoothing

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        return F.one_hot(target, self.num_classes).float() * (1. - self.smoothing) + off

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha))
        x = x * lam + x.flip(0) * (1. - lam)
        y1, y2 = self.one_hot(target), self.one_hot(target.flip(0))
        return x, y1 * lam + y2 * (1. - lam)


class ModelEma:
    def __init__(self, model, decay):
        self.module = deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            ema_v.copy_(self.decay * ema_v + (1. - self.decay) * model_v)


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t, warmup_lr_init):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init = warmup_t, warmup_lr_init
        self.base = [g['lr'] for g in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, t):
        for group, base in zip(self.optimizer.param_groups, self.base):
            if t < self.warmup_t:
                group['lr'] = self.warmup_lr_init + t * (base - self.warmup_lr_init) / self.warmup_t
            else:
                group['lr'] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t / self.t_initial))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, mixup_fn, model_ema):
    model.train()
    losses_m = AverageMeter()
    num_updates = epoch * len(loader)
    for input, target in loader:
        input, target = mixup_fn(input, target)
        output = model(input)
        loss = loss_fn(output, target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
        losses_m.update(loss.item(), input.size(0))
    return losses_m.avg


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    losses_m, top1_m = AverageMeter(), AverageMeter()
    for input, target in loader:
        output = model(input)
        losses_m.update(loss_fn(output, target).item(), input.size(0))
        top1_m.update((output.argmax(1) == target).float().mean().item() * 100., input.size(0))
    return {'loss': losses_m.avg, 'top1': top1_m.avg}


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)
    transform = lambda image: (image - 0.5) / 0.2
    dataset_train = Shapes(train=True, transform=transform)
    dataset_eval = Shapes(train=False, transform=transform)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=args.batch_size * 2, shuffle=False)

    model = TinyConvNet(args.num_classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    lr_scheduler = CosineLRScheduler(
        optimizer, t_initial=args.epochs * len(loader_train), lr_min=args.lr * 0.01,
        warmup_t=args.warmup_epochs * len(loader_train), warmup_lr_init=args.warmup_lr)
    mixup_fn = Mixup(args.mixup, args.num_classes)
    train_loss_fn, validate_loss_fn = nn.CrossEntropyLoss(), nn.CrossEntropyLoss()

    best_metric, best_state = -1., None
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(
            epoch, model, loader_train, optimizer, train_loss_fn, args, lr_scheduler, mixup_fn, model_ema)
        metrics = validate(model_ema.module, loader_eval, validate_loss_fn)
        print(f'{epoch}: train {train_loss:.4f}  ema eval {metrics["loss"]:.4f}  top1 {metrics["top1"]:.2f}')
        if metrics['top1'] > best_metric:
            best_metric, best_state = metrics['top1'], deepcopy(model_ema.module.state_dict())
    print(f'*** Best metric: {best_metric:.2f} ({len(best_state)} tensors kept)')


if __name__ == '__main__':
    main()
