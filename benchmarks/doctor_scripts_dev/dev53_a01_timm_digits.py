"""Train a small ConvNet on 16x16 digits (timm-style recipe: mixup, EMA, cosine schedule with warmup)."""

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

DIGITS_MEAN, DIGITS_STD = 0.15, 0.28

parser = argparse.ArgumentParser(description="Digits training")
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("-b", "--batch-size", type=int, default=48)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--min-lr", type=float, default=1e-5)
parser.add_argument("--weight-decay", type=float, default=0.02)
parser.add_argument("--warmup-epochs", type=int, default=2)
parser.add_argument("--warmup-lr", type=float, default=1e-5)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--drop", type=float, default=0.1)
parser.add_argument("--model-ema-decay", type=float, default=0.95)
parser.add_argument("--seed", type=int, default=42)

class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)

class Preprocess:
    def __init__(self, mean, std, shift=0):
        self.mean, self.std, self.shift = mean, std, shift
    def __call__(self, img):
        img = img.float() / 255.0
        if self.shift:
            dy, dx = np.random.randint(-self.shift, self.shift + 1, 2).tolist()
            img = torch.roll(img, (dy, dx), (1, 2))
        return (img - self.mean) / self.std

class Mixup:
    def __init__(self, alpha, num_classes):
        self.alpha, self.num_classes = alpha, num_classes
    def __call__(self, x, target):
        lam = float(np.random.beta(self.alpha, self.alpha)) if self.alpha > 0 else 1.0
        perm = torch.randperm(x.size(0))
        onehot = F.one_hot(target, self.num_classes).to(x.dtype)
        mixed = lam * x + (1.0 - lam) * x[perm]
        return mixed, lam * onehot + (1.0 - lam) * onehot[perm]

class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()

def conv_bn(cin, cout, stride=1):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))

class DigitNet(nn.Module):
    def __init__(self, num_classes=10, width=24, drop_rate=0.1):
        super().__init__()
        self.stem = conv_bn(1, width)
        self.stages = nn.Sequential(conv_bn(width, 2 * width, 2), conv_bn(2 * width, 2 * width, 2))
        self.num_features = 2 * width * 16
        self.drop = nn.Dropout(drop_rate)
        self.reset_classifier(num_classes)
    def reset_classifier(self, num_classes):
        self.head = nn.Linear(self.num_features, num_classes)
    def forward(self, x):
        return self.head(self.drop(self.stages(self.stem(x)).flatten(1)))

class ModelEma:
    def __init__(self, model, decay):
        self.module, self.decay, self.updates = copy.deepcopy(model).eval(), decay, 0
    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.mul_(decay).add_(v, alpha=1.0 - decay)
            else:
                ema_v.copy_(v)

def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        (no_decay if param.ndim <= 1 or name.endswith(".bias") else decay).append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]

def lr_at(update, args, warmup_updates, total_updates):
    if update < warmup_updates:
        return args.warmup_lr + (args.lr - args.warmup_lr) * update / warmup_updates
    t = (update - warmup_updates) / max(1, total_updates - warmup_updates)
    return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * min(t, 1.0)))

@torch.no_grad()
def validate(model, loader):
    losses, top1 = AverageMeter(), AverageMeter()
    model.eval()
    for x, target in loader:
        output = model(x)
        losses.update(F.cross_entropy(output, target).item(), x.size(0))
        top1.update((output.argmax(dim=1) == target).float().mean().item() * 100.0, x.size(0))
    return OrderedDict(loss=losses.avg, top1=top1.avg)

def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    dataset_train = Digits(train=True, transform=Preprocess(DIGITS_MEAN, DIGITS_STD, shift=1))
    dataset_eval = Digits(train=False, transform=Preprocess(DIGITS_MEAN, DIGITS_STD))
    loader_train = DataLoader(dataset_train, args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, 100)

    model = DigitNet(num_classes=10, drop_rate=args.drop)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    mixup_fn = Mixup(args.mixup, num_classes=10)
    train_loss_fn = SoftTargetCrossEntropy()
    warmup_updates = args.warmup_epochs * len(loader_train)
    total_updates = args.epochs * len(loader_train)

    best_top1, best_state, num_updates = 0.0, None, 0
    for epoch in range(args.epochs):
        model.train()
        losses = AverageMeter()
        for x, target in loader_train:
            lr = lr_at(num_updates, args, warmup_updates, total_updates)
            for group in optimizer.param_groups:
                group["lr"] = lr
            x, target = mixup_fn(x, target)
            loss = train_loss_fn(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            model_ema.update(model)
            num_updates += 1
            losses.update(loss.item(), x.size(0))
        metrics = validate(model_ema.module, loader_eval)
        print(f"Train: {epoch} loss {losses.avg:.4f} lr {lr:.2e}  EMA loss {metrics['loss']:.4f} top1 {metrics['top1']:.2f}")
        if metrics["top1"] > best_top1:
            best_top1, best_state = metrics["top1"], copy.deepcopy(model_ema.module.state_dict())
    print(f"*** Best top1: {best_top1:.2f}")
    return best_state

if __name__ == "__main__":
    main()
