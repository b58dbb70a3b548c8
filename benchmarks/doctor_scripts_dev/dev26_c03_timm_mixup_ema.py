#!/usr/bin/env python3
"""timm-like training: mixup, soft targets, exponential moving average of the weights, cosine schedule with warm-up."""

import argparse
import copy
import logging
import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import Digits

_logger = logging.getLogger("train")


def parse_args():
    parser = argparse.ArgumentParser(description="Digits training")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--min-lr", type=float, default=2e-5)
    parser.add_argument("--warmup-updates", type=int, default=60)
    parser.add_argument("--weight-decay", type=float, default=0.02)
    parser.add_argument("--mixup", type=float, default=0.2)
    parser.add_argument("--mixup-off-epoch", type=int, default=0, help="turn mixup off from this epoch on, 0: never")
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--clip-grad", type=float, default=5.0)
    parser.add_argument("--model-ema-decay", type=float, default=0.99)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


class ConvNormAct(nn.Sequential):
    def __init__(self, in_chs, out_chs, stride=1, groups=1, kernel_size=3):
        super().__init__(
            nn.Conv2d(in_chs, out_chs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_chs),
            nn.SiLU(inplace=True),
        )


class TinyNet(nn.Module):
    def __init__(self, num_classes=10, in_chans=1, chs=(24, 48, 96), drop_rate=0.1):
        super().__init__()
        self.stem = ConvNormAct(in_chans, chs[0])
        self.stages = nn.Sequential(
            ConvNormAct(chs[0], chs[1], stride=2),
            ConvNormAct(chs[1], chs[1]),
            ConvNormAct(chs[1], chs[2], stride=2),
        )
        self.drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(chs[2] * 4 * 4, num_classes)

    def forward(self, x):
        x = self.stages(self.stem(x)).flatten(1)
        return self.classifier(self.drop(x))


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes
        self.enabled = True

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        full = torch.full((len(target), self.num_classes), off)
        return full.scatter_(1, target[:, None], 1.0 - self.smoothing + off)

    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha)) if self.enabled and self.alpha > 0 else 1.0
        soft = self.one_hot(target)
        return x * lam + x.flip(0) * (1 - lam), soft * lam + soft.flip(0) * (1 - lam)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        for p in self.module.parameters():
            p.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(decay).add_(model_v, alpha=1 - decay)
            else:
                ema_v.copy_(model_v)


def param_groups(model, weight_decay):
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim <= 1 or name.endswith(".bias") else decay).append(p)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def to_input(image):
    return (image.float() / 255 - 0.17) / 0.30


def lr_at(update, total, args):
    if update < args.warmup_updates:
        return args.lr * (update + 1) / args.warmup_updates
    t = (update - args.warmup_updates) / max(1, total - args.warmup_updates)
    return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * t))


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, mixup_fn, model_ema, total, args):
    model.train()
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        mixup_fn.enabled = False
    loss_sum, count = 0.0, 0
    for i, (x, target) in enumerate(loader):
        update = epoch * len(loader) + i
        for group in optimizer.param_groups:
            group["lr"] = lr_at(update, total, args)
        x, soft = mixup_fn(x, target)
        loss = loss_fn(model(x), soft)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        model_ema.update(model, update)
        loss_sum += loss.item() * len(x)
        count += len(x)
    return OrderedDict(loss=loss_sum / count, lr=optimizer.param_groups[0]["lr"])


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss_sum, top1, count = 0.0, 0, 0
    for x, target in loader:
        output = model(x)
        loss_sum += F.cross_entropy(output, target, reduction="sum").item()
        top1 += (output.argmax(1) == target).sum().item()
        count += len(target)
    return OrderedDict(loss=loss_sum / count, top1=100 * top1 / count)


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    dataset_train = Digits(train=True, count=3000, transform=to_input)
    dataset_eval = Digits(train=False, count=600, transform=to_input)
    loader_train = torch.utils.data.DataLoader(dataset_train, args.batch_size, shuffle=True, drop_last=True)
    loader_eval = torch.utils.data.DataLoader(dataset_eval, 2 * args.batch_size)

    model = TinyNet()
    _logger.info(f"Model TinyNet created, param count: {sum(p.numel() for p in model.parameters())}")
    optimizer = torch.optim.AdamW(param_groups(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    mixup_fn = Mixup(args.mixup, args.smoothing, 10)
    loss_fn = SoftTargetCrossEntropy()
    total = args.epochs * len(loader_train)
    best = 0.0
    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(epoch, model, loader_train, optimizer, loss_fn, mixup_fn, model_ema, total, args)
        eval_metrics = validate(model, loader_eval)
        ema_metrics = validate(model_ema.module, loader_eval)
        best = max(best, ema_metrics["top1"])
        _logger.info(
            f"Epoch {epoch}: train loss {train_metrics['loss']:.4f} lr {train_metrics['lr']:.2e} | "
            f"eval loss {eval_metrics['loss']:.4f} top1 {eval_metrics['top1']:.2f} | EMA top1 {ema_metrics['top1']:.2f}"
        )
    _logger.info(f"*** Best EMA metric: {best:.2f}")


if __name__ == "__main__":
    main()
