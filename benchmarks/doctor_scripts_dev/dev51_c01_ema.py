#!/usr/bin/env python3
"""Digit training script, cut down from a larger image-classification code base.

Keeps an exponential moving average of the weights, sets the learning rate at every update,
smooths labels, and keeps the checkpoint whose averaged weights do best.
"""
import argparse
import copy
import logging
import math
import os
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

import toydata

_logger = logging.getLogger("train")

parser = argparse.ArgumentParser(description="Digit training")
parser.add_argument("--epochs", type=int, default=9)
parser.add_argument("-b", "--batch-size", type=int, default=64)
parser.add_argument("--lr", type=float, default=4e-3)
parser.add_argument("--min-lr", type=float, default=1e-5)
parser.add_argument("--warmup-updates", type=int, default=20)
parser.add_argument("--weight-decay", type=float, default=0.02)
parser.add_argument("--smoothing", type=float, default=0.1)
parser.add_argument("--model-ema-decay", type=float, default=0.97)
parser.add_argument("--seed", type=int, default=42)


class BasicBlock(nn.Module):
    def __init__(self, inplanes, planes, stride=2):
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = nn.Sequential(nn.Conv2d(inplanes, planes, 1, stride, bias=False), nn.BatchNorm2d(planes))

    def forward(self, x):
        shortcut = self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + shortcut)


class ResNetTiny(nn.Module):
    def __init__(self, num_classes=10, in_chans=1, width=12):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(width, 2 * width), BasicBlock(2 * width, 4 * width))
        self.fc = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class ModelEma(nn.Module):
    def __init__(self, model, decay):
        super().__init__()
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.num_updates = decay, 0

    @torch.no_grad()
    def update(self, model):
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        for ema_v, model_v in zip(self.module.state_dict().values(), model.state_dict().values()):
            if ema_v.dtype.is_floating_point:
                ema_v.lerp_(model_v, 1.0 - decay)
            else:
                ema_v.copy_(model_v)


def create_transform(mean, std, pad=1, is_training=True):
    def transform(img):
        img = img.float() / 255.0
        if is_training:
            h, w = img.shape[-2:]
            top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
            img = F.pad(img, (pad, pad, pad, pad))[:, top : top + h, left : left + w]
        return (img - mean) / std

    return transform


def lr_at(update, total, args):
    if update < args.warmup_updates:
        return args.lr * (update + 1) / args.warmup_updates
    t = (update - args.warmup_updates) / max(total - args.warmup_updates, 1)
    return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * min(t, 1.0)))


def train_one_epoch(epoch, model, loader, optimizer, train_loss_fn, model_ema, args):
    num_updates, total = epoch * len(loader), args.epochs * len(loader)
    loss_sum = 0.0
    model.train()
    for input, target in loader:
        for group in optimizer.param_groups:
            group["lr"] = lr_at(num_updates, total, args)
        output = model(input)
        loss = train_loss_fn(output, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model_ema.update(model)
        num_updates += 1
        loss_sum += loss.item()
    return loss_sum / len(loader)


@torch.no_grad()
def validate(model, loader):
    loss_sum, correct = 0.0, 0
    model.eval()
    for input, target in loader:
        output = model(input)
        loss_sum += F.cross_entropy(output, target, reduction="sum").item()
        correct += (output.argmax(dim=1) == target).sum().item()
    return loss_sum / len(loader.dataset), 100.0 * correct / len(loader.dataset)


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    dataset_train, dataset_eval = toydata.Digits(train=True), toydata.Digits(train=False)
    pixels = dataset_train.data.float() / 255.0
    mean, std = pixels.mean(), pixels.std()
    dataset_train.transform = create_transform(mean, std, is_training=True)
    dataset_eval.transform = create_transform(mean, std, is_training=False)
    loader_train = DataLoader(dataset_train, batch_size=args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(dataset_eval, batch_size=2 * args.batch_size)

    model = ResNetTiny()
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": args.weight_decay}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr)
    model_ema = ModelEma(model, args.model_ema_decay)
    train_loss_fn = nn.CrossEntropyLoss(label_smoothing=args.smoothing)

    best_metric, best_path = -1.0, os.path.join(tempfile.mkdtemp(), "model_best.pth")
    for epoch in range(args.epochs):
        train_loss = train_one_epoch(epoch, model, loader_train, optimizer, train_loss_fn, model_ema, args)
        (_, top1), (ema_loss, ema_top1) = validate(model, loader_eval), validate(model_ema.module, loader_eval)
        _logger.info(
            f"Epoch {epoch}: train {train_loss:.3f}  top1 {top1:.2f}  ema loss {ema_loss:.3f}  ema top1 {ema_top1:.2f}"
        )
        if ema_top1 > best_metric:
            best_metric = ema_top1
            torch.save({"epoch": epoch, "state_dict_ema": model_ema.module.state_dict()}, best_path)
    _logger.info(f"*** Best EMA top1: {best_metric:.2f}")


if __name__ == "__main__":
    main()
