#!/usr/bin/env python3
""" Training script in the manner of timm: SGD + warmup cosine, mixup, smoothing and model EMA """
import argparse
import logging
import math
from copy import deepcopy
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

_logger = logging.getLogger('train')

parser = argparse.ArgumentParser(description='Grating Training')
group = parser.add_argument_group('Optimizer parameters')
group.add_argument('--lr', type=float, default=0.05)
group.add_argument('--momentum', type=float, default=0.9)
group.add_argument('--weight-decay', type=float, default=5e-4)
group.add_argument('--clip-grad', type=float, default=5.0, help='Clip gradient norm')
group = parser.add_argument_group('Learning rate schedule parameters')
group.add_argument('--epochs', type=int, default=10)
group.add_argument('--warmup-epochs', type=int, default=1)
group.add_argument('--warmup-lr', type=float, default=1e-4)
group.add_argument('--min-lr', type=float, default=1e-5)
group = parser.add_argument_group('Augmentation and regularization parameters')
group.add_argument('--hflip', type=float, default=0.0, help='Horizontal flip training aug probability')
group.add_argument('--mixup', type=float, default=0.2, help='mixup alpha')
group.add_argument('--smoothing', type=float, default=0.1)
group = parser.add_argument_group('Model Exponential Moving Average')
group.add_argument('--model-ema-decay', type=float, default=0.98)
group = parser.add_argument_group('Misc')
group.add_argument('--batch-size', type=int, default=64)
group.add_argument('--num-classes', type=int, default=8)
group.add_argument('--seed', type=int, default=42)
group.add_argument('--log-interval', type=int, default=16)


def create_dataset(n, num_classes, seed, size=24):
    """Gratings; the class is the orientation."""
    rng = np.random.RandomState(seed)
    labels = rng.randint(num_classes, size=n)
    theta = labels * np.pi / num_classes + rng.uniform(-0.12, 0.12, n)
    freq, phase = rng.uniform(0.5, 1.1, n), rng.uniform(0, 2 * np.pi, n)
    yy, xx = np.mgrid[:size, :size] - size / 2
    arg = np.cos(theta)[:, None, None] * xx + np.sin(theta)[:, None, None] * yy
    images = np.sin(arg * freq[:, None, None] + phase[:, None, None]) * rng.uniform(0.3, 1, n)[:, None, None]
    images = images + rng.normal(0, 0.7, images.shape)
    return torch.tensor(images, dtype=torch.float32).unsqueeze(1), torch.tensor(labels)


class Loader:
    def __init__(self, dataset, batch_size, is_training=False, hflip=0.0):
        self.images, self.labels = dataset
        self.batch_size, self.is_training, self.hflip = batch_size, is_training, hflip

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self):
        order = torch.randperm(len(self.images)) if self.is_training else torch.arange(len(self.images))
        for idx in order.split(self.batch_size):
            images, labels = self.images[idx], self.labels[idx]
            if self.is_training and self.hflip > 0:
                flip = torch.rand(len(idx)) < self.hflip
                images[flip] = images[flip].flip(-1)
            yield images, labels


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def one_hot(self, y):
        off = self.smoothing / self.num_classes
        return F.one_hot(y, self.num_classes).float() * (1. - self.smoothing) + off

    def __call__(self, x, y):
        lam = float(np.random.beta(self.alpha, self.alpha))
        target = self.one_hot(y) * lam + self.one_hot(y.flip(0)) * (1. - lam)
        return x * lam + x.flip(0) * (1. - lam), target


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay=0.9999):
        super().__init__()
        self.module = deepcopy(model).eval()
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.is_floating_point():
                ema_v.mul_(decay).add_(model_v, alpha=1. - decay)
            else:
                ema_v.copy_(model_v)


class CosineLRScheduler:
    """Cosine decay with linear warmup; t counts optimizer updates."""
    def __init__(self, optimizer, t_initial, lr_min, warmup_t, warmup_lr_init):
        self.optimizer, self.t_initial, self.lr_min = optimizer, t_initial, lr_min
        self.warmup_t, self.warmup_lr_init = warmup_t, warmup_lr_init
        self.base_values = [g['lr'] for g in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        t = min(num_updates, self.t_initial)
        for g, v in zip(self.optimizer.param_groups, self.base_values):
            if t < self.warmup_t:
                g['lr'] = self.warmup_lr_init + t * (v - self.warmup_lr_init) / self.warmup_t
            else:
                g['lr'] = self.lr_min + 0.5 * (v - self.lr_min) * (1 + math.cos(math.pi * t / self.t_initial))


def create_model(num_classes, width=16):
    def conv_bn(i, o, stride):
        return [nn.Conv2d(i, o, 5, stride, 2, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
    return nn.Sequential(*conv_bn(1, width, 2), *conv_bn(width, width * 2, 2), *conv_bn(width * 2, width * 2, 2),
                         nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width * 2, num_classes))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, lr_scheduler, mixup_fn, model_ema):
    model.train()
    num_updates = epoch * len(loader)
    for batch_idx, (input, target) in enumerate(loader):
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        lr_scheduler.step_update(num_updates)
        if batch_idx % args.log_interval == 0:
            _logger.info(f"Train: {epoch} [{batch_idx:>4d}/{len(loader)}]  Loss: {loss.item():.3f}  "
                         f"LR: {optimizer.param_groups[0]['lr']:.3e}")


@torch.no_grad()
def validate(model, loader, loss_fn, log_suffix=''):
    model.eval()
    correct, loss_sum, n = 0, 0.0, 0
    for input, target in loader:
        output = model(input)
        loss_sum += loss_fn(output, target).item() * len(target)
        correct += (output.argmax(1) == target).sum().item()
        n += len(target)
    metrics = OrderedDict([('loss', loss_sum / n), ('top1', 100. * correct / n)])
    _logger.info(f"Test{log_suffix}: Loss: {metrics['loss']:.4f}  Acc@1: {metrics['top1']:.2f}")
    return metrics


def main():
    logging.basicConfig(level=logging.INFO, format='%(message)s')
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    loader_train = Loader(create_dataset(2048, args.num_classes, 1), args.batch_size, True, args.hflip)
    loader_eval = Loader(create_dataset(800, args.num_classes, 2), args.batch_size)
    model = create_model(args.num_classes)
    model_ema = ModelEma(model, decay=args.model_ema_decay)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=args.momentum, nesterov=True,
                                weight_decay=args.weight_decay)
    updates_per_epoch = len(loader_train)
    lr_scheduler = CosineLRScheduler(
        optimizer, t_initial=args.epochs * updates_per_epoch, lr_min=args.min_lr,
        warmup_t=args.warmup_epochs * updates_per_epoch, warmup_lr_init=args.warmup_lr)
    mixup_fn = Mixup(args.mixup, args.smoothing, args.num_classes)
    train_loss_fn, validate_loss_fn = SoftTargetCrossEntropy(), nn.CrossEntropyLoss()

    eval_metrics = {}
    for epoch in range(args.epochs):
        train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, args, lr_scheduler, mixup_fn, model_ema)
        eval_metrics = validate(model_ema.module, loader_eval, validate_loss_fn, log_suffix=' (EMA)')
    print(f"*** Final metric: {eval_metrics['top1']:.2f}")


if __name__ == '__main__':
    main()
