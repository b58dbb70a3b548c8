"""Digits with mixup and smoothed soft targets (in the manner of timm's Mixup)."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

args = dict(classes=10, smoothing=0.1, mixup_alpha=0.2, lr=2e-3, min_lr=2e-4, warmup=20, total=1500, batch_size=64)


def soft_targets(labels, classes, smoothing):
    off = smoothing / classes
    hot = torch.full((len(labels), classes), off)
    return hot.scatter_(1, labels.view(-1, 1), 1 - smoothing + off)


class Mixup:
    def __init__(self, alpha, classes, smoothing, seed=0):
        self.alpha, self.classes, self.smoothing = alpha, classes, smoothing
        self.rng = np.random.default_rng(seed)

    def __call__(self, images, labels):
        lam = float(self.rng.beta(self.alpha, self.alpha))
        index = torch.randperm(len(images))
        targets = soft_targets(labels, self.classes, self.smoothing)
        images = lam * images + (1 - lam) * images[index]
        targets = lam * targets + (1 - lam) * targets[index]
        return images, targets


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, logits, targets):
        if targets.dim() == 1:
            return F.cross_entropy(logits, targets)
        return torch.sum(-targets * F.log_softmax(logits, dim=-1), dim=-1).mean()


class ConvNet(nn.Module):
    def __init__(self, classes, width=24):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(2 * width * 16, classes))

    def forward(self, x):
        return self.classifier(self.features(x))


class Trainer:
    """Mixup, cosine rate with warm-up counted in steps, clipping."""

    def __init__(self, args):
        self.args, self.count = args, 0
        self.mixup = Mixup(args["mixup_alpha"], args["classes"], args["smoothing"])

    def rate(self):
        a = self.args
        if self.count < a["warmup"]:
            return a["lr"] * (self.count + 1) / a["warmup"]
        done = min(1.0, (self.count - a["warmup"]) / (a["total"] - a["warmup"]))
        return a["min_lr"] + 0.5 * (a["lr"] - a["min_lr"]) * (1 + math.cos(math.pi * done))

    def train_step(self, model, batch, optimizer, loss):
        images, targets = self.mixup(*batch)
        for group in optimizer.param_groups:
            group["lr"] = self.rate()
        optimizer.zero_grad()
        value = loss(model(images), targets)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        self.count += 1
        return value


def setup():
    torch.manual_seed(6)
    transform = lambda image: (image.float() / 255 - 0.2) / 0.33
    train = DataLoader(Digits(True, transform=transform), batch_size=args["batch_size"], shuffle=True, drop_last=True)
    val = DataLoader(Digits(False, transform=transform), batch_size=150)
    model = ConvNet(args["classes"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=args["lr"], weight_decay=0.01)
    trainer = Trainer(args)
    return dict(model=model, train=train, val=val, loss=SoftTargetCrossEntropy(), optimizer=optimizer, step=trainer.train_step)
