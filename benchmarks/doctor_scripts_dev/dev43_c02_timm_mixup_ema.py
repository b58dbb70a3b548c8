"""Colored shapes with the usual bag of tricks: mixup, label smoothing, EMA, cosine with warmup by updates."""
import argparse
import math
from copy import deepcopy

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes


class SqueezeExcite(nn.Module):
    def __init__(self, chs, rd_chs):
        super().__init__()
        self.conv_reduce = nn.Conv2d(chs, rd_chs, 1)
        self.conv_expand = nn.Conv2d(rd_chs, chs, 1)

    def forward(self, x):
        gate = self.conv_expand(F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


def conv_bn(in_chs, out_chs, kernel, stride=1, groups=1):
    conv = nn.Conv2d(in_chs, out_chs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_chs))


class InvertedResidual(nn.Module):
    def __init__(self, chs, expand=2):
        super().__init__()
        mid = chs * expand
        self.pw, self.dw = conv_bn(chs, mid, 1), conv_bn(mid, mid, 3, groups=mid)
        self.se, self.pwl = SqueezeExcite(mid, chs // 4), conv_bn(mid, chs, 1)

    def forward(self, x):
        return x + self.pwl(self.se(F.silu(self.dw(F.silu(self.pw(x))))))


class TinyNet(nn.Module):
    def __init__(self, num_classes=6, widths=(24, 40, 64), drop_rate=0.1):
        super().__init__()
        layers, in_chs = [], 3
        for stage, chs in enumerate(widths):
            layers += [conv_bn(in_chs, chs, 3, stride=1 if stage == 0 else 2), nn.SiLU(), InvertedResidual(chs)]
            in_chs = chs
        self.features = nn.Sequential(*layers)
        self.drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(in_chs, num_classes)

    def forward(self, x):
        return self.classifier(self.drop(self.features(x).mean((2, 3))))


class ModelEma:
    def __init__(self, model, decay):
        self.module = deepcopy(model).eval().requires_grad_(False)
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.lerp_(model_v, 1 - decay)
            else:
                ema_v.copy_(model_v)


def mixup_batch(images, target, num_classes, alpha, smoothing):
    lam = float(np.random.beta(alpha, alpha))
    off_value = smoothing / num_classes
    one_hot = torch.full((len(target), num_classes), off_value)
    one_hot.scatter_(1, target.view(-1, 1), 1.0 - smoothing + off_value)
    mixed = images * lam + images.flip(0) * (1 - lam)
    return mixed, one_hot * lam + one_hot.flip(0) * (1 - lam)


def soft_target_cross_entropy(x, target):
    return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, warmup_t, lr_min, warmup_lr_init):
        self.optimizer, self.t_initial, self.warmup_t = optimizer, t_initial, warmup_t
        self.lr_min, self.warmup_lr_init = lr_min, warmup_lr_init
        self.base_values = [group["lr"] for group in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        for group, base in zip(self.optimizer.param_groups, self.base_values):
            if num_updates < self.warmup_t:
                group["lr"] = self.warmup_lr_init + num_updates * (base - self.warmup_lr_init) / self.warmup_t
            else:
                share = min(1.0, (num_updates - self.warmup_t) / (self.t_initial - self.warmup_t))
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * share))


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def augment(image):
    if torch.rand(()) < 0.5:
        image = image.flip(-1)
    return (image - 0.5) / 0.2


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss, correct, seen = 0.0, 0, 0
    for images, target in loader:
        output = model(images)
        loss += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(1) == target).sum().item()
        seen += target.numel()
    return dict(loss=loss / seen, top1=100.0 * correct / seen)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=60)
    args = parser.parse_args()
    torch.manual_seed(42)
    np.random.seed(42)

    loader_train = DataLoader(Shapes(train=True, transform=augment), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=lambda image: (image - 0.5) / 0.2), 2 * args.batch_size)
    model = TinyNet()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, weight_decay=0.02), lr=4e-3)
    model_ema = ModelEma(model, decay=0.95)
    updates_per_epoch = len(loader_train)
    lr_scheduler = CosineLRScheduler(optimizer, args.epochs * updates_per_epoch, 2 * updates_per_epoch, 1e-5, 1e-4)
    num_updates, best = 0, 0.0
    for epoch in range(args.epochs):
        model.train()
        for images, target in loader_train:
            images, soft_target = mixup_batch(images, target, 6, alpha=0.2, smoothing=0.1)
            loss = soft_target_cross_entropy(model(images), soft_target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model_ema.update(model)
            num_updates += 1
            lr_scheduler.step_update(num_updates)
        raw, ema = validate(model, loader_eval), validate(model_ema.module, loader_eval)
        best = max(best, ema["top1"])
        print(f"{epoch:2d} train {loss.item():.3f} raw {raw['top1']:.1f} ema {ema['top1']:.1f} ({ema['loss']:.3f})")
    print(f"*** Best EMA metric: {best:.2f}")


if __name__ == "__main__":
    main()
