"""Image classification in the manner of timm's train.py: config groups, EMA of the weights, cosine schedule with warmup."""

import argparse
import copy
import math
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

parser = argparse.ArgumentParser(description="Training on digits")
group = parser.add_argument_group("Model parameters")
group.add_argument("--width", type=int, default=16)
group.add_argument("--drop", type=float, default=0.1)
group = parser.add_argument_group("Optimizer parameters")
group.add_argument("--lr", type=float, default=4e-3)
group.add_argument("--weight-decay", type=float, default=0.02)
group.add_argument("--epochs", type=int, default=8)
group.add_argument("--warmup-epochs", type=int, default=1)
group.add_argument("--batch-size", type=int, default=64)
group.add_argument("--smoothing", type=float, default=0.1)
group.add_argument("--model-ema-decay", type=float, default=0.97)
group.add_argument("--seed", type=int, default=42)


class AverageMeter:
    def __init__(self):
        self.sum, self.count = 0.0, 0

    def update(self, val, n=1):
        self.sum += val * n
        self.count += n

    @property
    def avg(self):
        return self.sum / max(self.count, 1)


class ModelEma:
    """Keeps a moving average of everything in the model's state dict."""

    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval()
        self.decay = decay
        self.updates = 0
        for p in self.module.parameters():
            p.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.is_floating_point():
                ema_v.lerp_(model_v, 1.0 - decay)
            else:
                ema_v.copy_(model_v)


def conv_bn_act(cin, cout, stride=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout), nn.ReLU(inplace=True)
    )


class SmallNet(nn.Module):
    def __init__(self, width, num_classes, drop):
        super().__init__()
        self.stem = conv_bn_act(1, width)
        self.stages = nn.Sequential(conv_bn_act(width, 2 * width, 2), conv_bn_act(2 * width, 2 * width, 2))
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(2 * width * 16, num_classes)

    def forward_features(self, x):
        return self.stages(self.stem(x)).flatten(1)

    def forward(self, x):
        x = self.drop(self.forward_features(x))
        return self.head(x)


def to_tensor(image):
    return (image.float() / 255 - 0.2) / 0.3


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for p in model.parameters():
        (no_decay if p.ndim <= 1 else decay).append(p)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def lr_at(update, total, warmup):
    if update < warmup:
        return (update + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (update - warmup) / max(1, total - warmup)))


def train_one_epoch(model, loader, loss_fn, optimizer, scheduler, model_ema):
    model.train()
    losses_m = AverageMeter()
    for input, target in loader:
        output = model(input)
        loss = loss_fn(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        model_ema.update(model)
        losses_m.update(loss.item(), input.size(0))
    return OrderedDict(loss=losses_m.avg)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    losses_m, top1_m = AverageMeter(), AverageMeter()
    for input, target in loader:
        output = model(input)
        losses_m.update(F.cross_entropy(output, target).item(), input.size(0))
        top1_m.update((output.argmax(dim=1) == target).float().mean().item() * 100, input.size(0))
    return OrderedDict(loss=losses_m.avg, top1=top1_m.avg)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    loader_train = DataLoader(Digits(train=True, transform=to_tensor), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Digits(train=False, transform=to_tensor), args.batch_size)

    model = SmallNet(args.width, 10, args.drop)
    model_ema = ModelEma(model, args.model_ema_decay)
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    updates = len(loader_train)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda u: lr_at(u, args.epochs * updates, args.warmup_epochs * updates)
    )
    train_loss_fn = nn.CrossEntropyLoss(label_smoothing=args.smoothing)

    best_metric, best_epoch, best_state = -1.0, None, None
    for epoch in range(args.epochs):
        train_metrics = train_one_epoch(model, loader_train, train_loss_fn, optimizer, scheduler, model_ema)
        eval_metrics = validate(model, loader_eval)
        ema_metrics = validate(model_ema.module, loader_eval)
        print(
            f"epoch {epoch}: train loss {train_metrics['loss']:.4f}  eval top1 {eval_metrics['top1']:.2f}"
            f"  ema top1 {ema_metrics['top1']:.2f}"
        )
        if ema_metrics["top1"] > best_metric:
            best_metric, best_epoch = ema_metrics["top1"], epoch
            best_state = copy.deepcopy(model_ema.module.state_dict())
    print(f"*** Best metric: {best_metric:.2f} (epoch {best_epoch}), {len(best_state)} tensors kept")


if __name__ == "__main__":
    main()
