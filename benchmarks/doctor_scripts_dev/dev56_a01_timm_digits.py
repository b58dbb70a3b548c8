"""Train a small residual network on generated digits, in the manner of timm's train.py."""
import argparse
import copy
import math
import random
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def get_args():
    parser = argparse.ArgumentParser(description="PyTorch ImageNet-like training")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("-b", "--batch-size", type=int, default=48)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--min-lr", type=float, default=1e-5)
    parser.add_argument("--warmup-epochs", type=int, default=1)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--mixup", type=float, default=0.2)
    parser.add_argument("--smoothing", type=float, default=0.05)
    parser.add_argument("--model-ema-decay", type=float, default=0.97)
    parser.add_argument("--drop", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


def create_transform(is_training, mean, std):
    def transform(img):
        img = img.float().div(255)
        if is_training:
            top, left = random.randint(0, 2), random.randint(0, 2)
            img = F.pad(img, (1, 1, 1, 1))[:, top : top + 16, left : left + 16]
        return (img - mean) / std

    return transform


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = None
        if stride != 1 or inplanes != planes:
            self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNetTiny(nn.Module):
    def __init__(self, num_classes=10, in_chans=1, width=16, drop_rate=0.1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(width, width * 2, 2), BasicBlock(width * 2, width * 4, 2))
        self.drop = nn.Dropout(drop_rate)
        self.fc = nn.Linear(width * 4, num_classes)

    def forward(self, x):
        return self.fc(self.drop(self.layers(self.stem(x)).mean((2, 3))))


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def __call__(self, x, target):
        lam = random.betavariate(self.alpha, self.alpha)
        lam = max(lam, 1 - lam)
        off = self.smoothing / self.num_classes
        y1 = F.one_hot(target, self.num_classes).float() * (1 - self.smoothing) + off
        y2 = y1.flip(0)
        x = x * lam + x.flip(0) * (1 - lam)
        return x, y1 * lam + y2 * (1 - lam)


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(self.decay).add_(model_v, alpha=1 - self.decay)
            else:
                ema_v.copy_(model_v)


class CosineLRScheduler:
    def __init__(self, optimizer, t_initial, lr_min, warmup_t):
        self.optimizer, self.t_initial, self.lr_min, self.warmup_t = optimizer, t_initial, lr_min, warmup_t
        self.base_values = [group["lr"] for group in optimizer.param_groups]
        self.step_update(0)

    def step_update(self, num_updates):
        for group, base in zip(self.optimizer.param_groups, self.base_values):
            if num_updates < self.warmup_t:
                group["lr"] = base * (num_updates + 1) / (self.warmup_t + 1)
            else:
                t = min(num_updates / self.t_initial, 1.0)
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * t))


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def train_one_epoch(epoch, model, loader, optimizer, mixup_fn, scheduler, model_ema):
    losses_m = AverageMeter()
    model.train()
    num_updates = epoch * len(loader)
    for input, target in loader:
        input, target = mixup_fn(input, target)
        loss = torch.sum(-target * F.log_softmax(model(input), dim=-1), dim=-1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        scheduler.step_update(num_updates)
        losses_m.update(loss.item(), input.size(0))
    return OrderedDict(loss=losses_m.avg)


@torch.no_grad()
def validate(model, loader):
    losses_m, top1_m = AverageMeter(), AverageMeter()
    model.eval()
    for input, target in loader:
        output = model(input)
        losses_m.update(F.cross_entropy(output, target).item(), input.size(0))
        top1_m.update((output.argmax(1) == target).float().mean().item() * 100, input.size(0))
    return OrderedDict(loss=losses_m.avg, top1=top1_m.avg)


def main():
    args = get_args()
    random.seed(args.seed)
    torch.manual_seed(args.seed)
    dataset_train, dataset_eval = Digits(train=True), Digits(train=False)
    pixels = dataset_train.data.float() / 255
    mean, std = pixels.mean().item(), pixels.std().item()
    dataset_train.transform = create_transform(True, mean, std)
    dataset_eval.transform = create_transform(False, mean, std)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=100)

    model = ResNetTiny(drop_rate=args.drop)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    mixup_fn = Mixup(args.mixup, args.smoothing, 10)
    updates_per_epoch = len(loader_train)
    scheduler = CosineLRScheduler(optimizer, args.epochs * updates_per_epoch, args.min_lr, args.warmup_epochs * updates_per_epoch)

    best_metric, best_epoch = None, None
    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(epoch, model, loader_train, optimizer, mixup_fn, scheduler, model_ema)
        eval_metrics = validate(model_ema.module, loader_eval)
        print(f"Train: {epoch} loss {train_metrics['loss']:.4f}  Test (EMA): loss {eval_metrics['loss']:.4f} top1 {eval_metrics['top1']:.2f}")
        if best_metric is None or eval_metrics["top1"] > best_metric:
            best_metric, best_epoch = eval_metrics["top1"], epoch
    print(f"*** Best metric: {best_metric:.2f} (epoch {best_epoch})")


if __name__ == "__main__":
    main()
