#!/usr/bin/env python3
""" Digits with mixup and sharpness-aware minimization

In the manner of timm's train.py: targets are mixed and smoothed, so that training shows a loss and no accuracy.
"""
import logging
import math
import random
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Digits

_logger = logging.getLogger("train")

args = dict(
    epochs=12, batch_size=60, lr=0.08, min_lr=1e-4, warmup_epochs=1, weight_decay=5e-4,
    rho=0.05, mixup=0.3, smoothing=0.05, num_classes=10, seed=42,
)


class SAM:
    """Climbs to where the loss is highest nearby, and takes the step of the base optimizer with the gradient there."""

    def __init__(self, params, base_cls, rho, **kwargs):
        self.params = [p for p in params if p.requires_grad]
        self.base = base_cls(self.params, **kwargs)
        self.rho = rho
        self.offsets = []

    @torch.no_grad()
    def climb(self):
        norm = torch.stack([p.grad.norm() for p in self.params]).norm()
        self.offsets = [p.grad * (self.rho / (norm + 1e-12)) for p in self.params]
        for p, offset in zip(self.params, self.offsets):
            p.add_(offset)
        self.base.zero_grad()

    @torch.no_grad()
    def descend(self):
        for p, offset in zip(self.params, self.offsets):
            p.sub_(offset)
        self.base.step()
        self.base.zero_grad()


class Mixup:
    def __init__(self, alpha, smoothing, num_classes):
        self.alpha, self.smoothing, self.num_classes = alpha, smoothing, num_classes

    def one_hot(self, target):
        off = self.smoothing / self.num_classes
        return F.one_hot(target, self.num_classes).float() * (1 - self.smoothing) + off

    def __call__(self, x, target):
        lam = random.betavariate(self.alpha, self.alpha)
        soft = self.one_hot(target)
        perm = torch.randperm(len(x))
        x, soft = lam * x + (1 - lam) * x[perm], lam * soft + (1 - lam) * soft[perm]
        return x, soft


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class BasicBlock(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(4, cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(4, cout)
        self.downsample = nn.Conv2d(cin, cout, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(out)) + self.downsample(x))


def create_model(num_classes):
    return nn.Sequential(OrderedDict([
        ("stem", nn.Conv2d(1, 12, 3, 1, 1)),
        ("layer1", BasicBlock(12, 16, 2)),
        ("layer2", BasicBlock(16, 32, 2)),
        ("flatten", nn.Flatten()),
        ("fc", nn.Linear(32 * 4 * 4, num_classes)),
    ]))


def train_transform(img):
    img = F.pad(img.float() / 255, (1, 1, 1, 1))
    top, left = random.randint(0, 2), random.randint(0, 2)
    return (img[:, top : top + 16, left : left + 16] - 0.17) / 0.31


def eval_transform(img):
    return (img.float() / 255 - 0.17) / 0.31


def validate(model, loader):
    model.eval()
    correct, loss, seen = 0, 0.0, 0
    with torch.inference_mode():
        for x, target in loader:
            output = model(x)
            loss += F.cross_entropy(output, target, reduction="sum")
            correct += (output.argmax(-1) == target).sum()
            seen += len(target)
    return OrderedDict(loss=float(loss) / seen, top1=100 * float(correct) / seen)


def main():
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    random.seed(args["seed"])
    torch.manual_seed(args["seed"])
    loader_train = DataLoader(Digits(True, transform=train_transform), args["batch_size"], shuffle=True, drop_last=True)
    loader_eval = DataLoader(Digits(False, transform=eval_transform), 2 * args["batch_size"])

    model = create_model(args["num_classes"])
    optimizer = SAM(model.parameters(), torch.optim.SGD, args["rho"], lr=args["lr"], momentum=0.9,
                    weight_decay=args["weight_decay"], nesterov=True)
    updates = len(loader_train)
    warmup, total = args["warmup_epochs"] * updates, args["epochs"] * updates
    floor = args["min_lr"] / args["lr"]

    def factor(update):
        if update < warmup:
            return (update + 1) / warmup
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * (update - warmup) / (total - warmup)))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer.base, factor)
    mixup_fn = Mixup(args["mixup"], args["smoothing"], args["num_classes"])
    train_loss_fn = SoftTargetCrossEntropy()

    for epoch in range(args["epochs"]):
        model.train()
        running = 0.0
        for x, target in loader_train:
            x, target = mixup_fn(x, target)
            loss = train_loss_fn(model(x), target)
            loss.backward()
            optimizer.climb()
            train_loss_fn(model(x), target).backward()
            optimizer.descend()
            lr_scheduler.step()
            running += loss.detach()
        metrics = validate(model, loader_eval)
        _logger.info(f"Train: {epoch} Loss: {running / updates:.4f}  Test: {metrics['loss']:.4f} "
                     f"Acc@1: {metrics['top1']:.2f}")


if __name__ == "__main__":
    main()
