"""Shape classification in the way of timm: mixup, label smoothing, cosine with warmup, EMA of the weights."""

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes


@dataclass
class Config:
    epochs: int = 14
    warmup_epochs: int = 2
    batch_size: int = 30
    lr: float = 3e-3
    min_lr: float = 1e-5
    weight_decay: float = 0.02
    mixup_alpha: float = 0.2
    smoothing: float = 0.1
    ema_decay: float = 0.98
    seed: int = 42


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, value, n=1):
        self.sum += value * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def conv_bn(inp, out, stride=1):
    return nn.Sequential(nn.Conv2d(inp, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out), nn.SiLU(inplace=True))


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.conv1 = conv_bn(dim, dim)
        self.conv2 = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm2d(dim))

    def forward(self, x):
        return F.silu(x + self.conv2(self.conv1(x)))


def create_model(num_classes):
    return nn.Sequential(
        conv_bn(3, 16), Block(16), conv_bn(16, 32, stride=2), Block(32), conv_bn(32, 48, stride=2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, num_classes),
    )


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval()
        self.module.requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1 - self.decay)
            else:
                ema_v.copy_(model_v)


def param_groups(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def mixup(x, y, num_classes, cfg, rng):
    off = cfg.smoothing / num_classes
    target = torch.full((len(y), num_classes), off).scatter_(1, y[:, None], 1 - cfg.smoothing + off)
    lam = float(rng.beta(cfg.mixup_alpha, cfg.mixup_alpha))
    return lam * x + (1 - lam) * x.flip(0), lam * target + (1 - lam) * target.flip(0)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    top1, losses = AverageMeter(), AverageMeter()
    for x, y in loader:
        logits = model(x)
        losses.update(F.cross_entropy(logits, y).item(), len(y))
        top1.update((logits.argmax(1) == y).float().mean().item() * 100, len(y))
    return OrderedDict(loss=losses.avg, top1=top1.avg)


def main(cfg=Config()):
    torch.manual_seed(cfg.seed)
    rng = np.random.default_rng(cfg.seed)
    normalize = lambda x: (x - 0.5) / 0.2  # noqa: E731
    loader_train = DataLoader(Shapes(train=True, transform=normalize), cfg.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=normalize), 80)
    model = create_model(len(NAMES))
    ema = ModelEma(model, cfg.ema_decay)
    optimizer = torch.optim.AdamW(param_groups(model, cfg.weight_decay), lr=cfg.lr)
    updates = len(loader_train)
    for epoch in range(cfg.epochs):
        model.train()
        losses = AverageMeter()
        for i, (x, y) in enumerate(loader_train):
            t = epoch + i / updates
            if t < cfg.warmup_epochs:
                lr = cfg.lr * (t + 1 / updates) / cfg.warmup_epochs
            else:
                part = (t - cfg.warmup_epochs) / (cfg.epochs - cfg.warmup_epochs)
                lr = cfg.min_lr + 0.5 * (cfg.lr - cfg.min_lr) * (1 + math.cos(math.pi * part))
            for group in optimizer.param_groups:
                group["lr"] = lr
            x, target = mixup(x, y, len(NAMES), cfg, rng)
            loss = F.cross_entropy(model(x), target)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            ema.update(model)
            losses.update(loss.item(), len(x))
        plain, averaged = validate(model, loader_eval), validate(ema.module, loader_eval)
        print(f"epoch {epoch} lr {lr:.5f} train {losses.avg:.3f} top1 {plain['top1']:.1f} ema {averaged['top1']:.1f}")


if __name__ == "__main__":
    main()
