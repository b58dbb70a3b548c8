"""Digit training in the manner of timm's train.py: mixup, EMA weights, per-update cosine schedule."""
import argparse
import copy
import math
import time
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="Small image training")
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--num-classes", type=int, default=10)
parser.add_argument("--lr", type=float, default=4e-3)
parser.add_argument("--warmup-updates", type=int, default=10)
parser.add_argument("--weight-decay", type=float, default=0.02)
parser.add_argument("--mixup", type=float, default=0.4)
parser.add_argument("--drop", type=float, default=0.1)
parser.add_argument("--model-ema-decay", type=float, default=0.9)
parser.add_argument("--clip-grad", type=float, default=5.0)
parser.add_argument("--seed", type=int, default=42)

MEAN, STD = 0.2, 0.3


class Transform:
    def __init__(self, is_training=False, pad=1, re_prob=0.2):
        self.is_training, self.pad, self.re_prob = is_training, pad, re_prob

    def __call__(self, image):
        image = (image.float() / 255 - MEAN) / STD
        if not self.is_training:
            return image
        _, h, w = image.shape
        padded = F.pad(image, [self.pad] * 4, value=-MEAN / STD)
        top, left = torch.randint(0, 2 * self.pad + 1, (2,)).tolist()
        image = padded[:, top : top + h, left : left + w].clone()
        image = image * (0.8 + 0.4 * torch.rand(()))
        if torch.rand(()) < self.re_prob:
            y, x = torch.randint(0, h - 3, (2,)).tolist()
            image[:, y : y + 3, x : x + 3] = torch.randn(1, 3, 3)
        return image


class Mixup:
    def __init__(self, alpha, num_classes):
        self.dist = torch.distributions.Beta(alpha, alpha)
        self.num_classes = num_classes

    def __call__(self, x, target):
        lam = float(self.dist.sample())
        onehot = F.one_hot(target, self.num_classes).float()
        mixed = x * lam + x.flip(0) * (1.0 - lam)
        soft = onehot * lam + onehot.flip(0) * (1.0 - lam)
        return mixed, soft


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class ConvBnAct(nn.Sequential):
    def __init__(self, i, o, stride=1):
        super().__init__(nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class TinyNet(nn.Module):
    def __init__(self, num_classes=10, drop_rate=0.0):
        super().__init__()
        self.num_features = 64
        self.stem = ConvBnAct(1, 16)
        self.stages = nn.Sequential(ConvBnAct(16, 32, 2), ConvBnAct(32, 32), ConvBnAct(32, 64, 2))
        self.drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes):
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features * 16, num_classes)

    def forward_features(self, x):
        return self.stages(self.stem(x))

    def forward(self, x):
        return self.head(self.drop(self.forward_features(x).flatten(1)))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for e, m in zip(self.module.state_dict().values(), model.state_dict().values()):
            if e.dtype.is_floating_point:
                e.mul_(self.decay).add_(m, alpha=1.0 - self.decay)
            else:
                e.copy_(m)


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, warmup_t, lr_min=1e-5):
        self.optimizer, self.t_initial, self.warmup_t, self.lr_min = optimizer, t_initial, warmup_t, lr_min
        self.base = [g["lr"] for g in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        for group, base in zip(self.optimizer.param_groups, self.base):
            if num_updates < self.warmup_t:
                group["lr"] = base * (num_updates + 1) / (self.warmup_t + 1)
            else:
                t = min(num_updates / self.t_initial, 1.0)
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t))


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for _, param in model.named_parameters():
        (no_decay if param.ndim <= 1 else decay).append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, loss_fn, args, scheduler, ema, mixup_fn):
    model.train()
    losses = AverageMeter()
    num_updates = epoch * len(loader)
    for input, target in loader:
        input, target = mixup_fn(input, target)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        ema.update(model)
        num_updates += 1
        scheduler.step_update(num_updates)
        losses.update(loss.item(), input.size(0))
    return OrderedDict(loss=losses.avg)


@torch.no_grad()
def validate(model, loader, loss_fn):
    model.eval()
    losses, top1 = AverageMeter(), AverageMeter()
    for input, target in loader:
        output = model(input)
        losses.update(loss_fn(output, target).item(), input.size(0))
        top1.update((output.argmax(dim=1) == target).float().mean().item() * 100, input.size(0))
    return OrderedDict(loss=losses.avg, top1=top1.avg)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    model = TinyNet(args.num_classes, drop_rate=args.drop)
    dataset_train = Digits(train=True, transform=Transform(is_training=True))
    dataset_eval = Digits(train=False, transform=Transform(is_training=False))
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=2 * args.batch_size, shuffle=False)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    ema = ModelEma(model, args.model_ema_decay)
    scheduler = CosineLRScheduler(optimizer, args.epochs * len(loader_train), args.warmup_updates)
    mixup_fn = Mixup(args.mixup, args.num_classes)
    train_loss_fn, validate_loss_fn = SoftTargetCrossEntropy(), nn.CrossEntropyLoss()
    best_metric, best_state = None, None
    for epoch in range(args.epochs):
        start = time.time()
        train_metrics = train_one_epoch(
            epoch, model, loader_train, optimizer, train_loss_fn, args, scheduler, ema, mixup_fn)
        eval_metrics = validate(ema.module, loader_eval, validate_loss_fn)
        if best_metric is None or eval_metrics["top1"] > best_metric:
            best_metric, best_state = eval_metrics["top1"], copy.deepcopy(ema.module.state_dict())
        print(f"Epoch {epoch}: train {train_metrics['loss']:.3f} eval {eval_metrics['loss']:.3f} "
              f"top1 {eval_metrics['top1']:.2f} ({time.time() - start:.1f}s)")
    ema.module.load_state_dict(best_state)
    print(f"*** Best metric: {best_metric:.2f}")


if __name__ == "__main__":
    main()
