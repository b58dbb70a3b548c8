"""Colored shapes with mixup and label smoothing, in the manner of timm."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from toydata import NAMES, Shapes

args = dict(num_classes=len(NAMES), mixup=0.2, smoothing=0.1, lr=3e-3, weight_decay=0.02, batch_size=50)


def normalize(image):
    return (image - 0.5) / 0.25


class Mixup:
    def __init__(self, mixup_alpha, num_classes, label_smoothing, seed=0):
        self.alpha, self.num_classes, self.smoothing = mixup_alpha, num_classes, label_smoothing
        self.rng = np.random.default_rng(seed)

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        return F.one_hot(target, self.num_classes).float() * (1 - self.smoothing) + off

    def __call__(self, x, target):
        lam = float(self.rng.beta(self.alpha, self.alpha))
        soft = self.one_hot(target)
        order = torch.randperm(x.size(0))
        mixed = x * lam + x[order] * (1 - lam)
        return mixed, soft * lam + soft[order] * (1 - lam)


class SoftTargetCrossEntropy(nn.Module):
    """Takes soft targets (training) and class numbers (validation)."""

    def forward(self, x, target):
        if target.dim() == 1:
            return F.cross_entropy(x, target)
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(cout)
        self.short = nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.short(x))


class TinyResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.stages = nn.Sequential(Block(16, 24, 1), Block(24, 48, 2))
        self.fc = nn.Linear(48, num_classes)

    def forward(self, x):
        return self.fc(self.stages(self.stem(x)).mean(dim=(2, 3)))


def make_step(mixup_fn):
    def step(model, batch, optimizer, loss):
        x, target = mixup_fn(*batch)
        value = loss(model(x), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    return step


def setup():
    torch.manual_seed(4)
    train_set, val_set = Shapes(train=True, transform=normalize), Shapes(train=False, transform=normalize)
    mixup_fn = Mixup(args["mixup"], args["num_classes"], args["smoothing"])
    return {
        "model": TinyResNet(args["num_classes"]),
        "train": DataLoader(train_set, batch_size=args["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(val_set, batch_size=60),
        "loss": SoftTargetCrossEntropy(),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=args["lr"], weight_decay=args["weight_decay"]),
        "step": make_step(mixup_fn),
    }
