""" Shapes training script

A lean cut of a larger training script: ConvMixer, mixup, cosine schedule with warm-up.
"""
import argparse
import copy
import math
from collections import OrderedDict

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

import toydata

parser = argparse.ArgumentParser(description="Shapes Training")
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--batch-size", type=int, default=40)
parser.add_argument("--lr", type=float, default=5e-3)
parser.add_argument("--warmup-lr", type=float, default=1e-4)
parser.add_argument("--min-lr", type=float, default=5e-5)
parser.add_argument("--warmup-updates", type=int, default=20)
parser.add_argument("--weight-decay", type=float, default=0.05)
parser.add_argument("--mixup", type=float, default=0.2)
parser.add_argument("--mixup-off-epoch", type=int, default=10)
parser.add_argument("--seed", type=int, default=42)

MEAN = (0.48, 0.46, 0.48)
STD = (0.19, 0.16, 0.19)


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


def conv_mixer(dim=48, depth=3, kernel_size=5, patch_size=2, num_classes=6):
    return nn.Sequential(
        nn.Conv2d(3, dim, patch_size, stride=patch_size),
        nn.GELU(),
        nn.BatchNorm2d(dim),
        *[
            nn.Sequential(
                Residual(nn.Sequential(
                    nn.Conv2d(dim, dim, kernel_size, groups=dim, padding="same"), nn.GELU(), nn.BatchNorm2d(dim)
                )),
                nn.Conv2d(dim, dim, 1), nn.GELU(), nn.BatchNorm2d(dim),
            )
            for _ in range(depth)
        ],
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(dim, num_classes),
    )


class Mixup:
    def __init__(self, alpha, num_classes):
        self.alpha, self.num_classes = alpha, num_classes
        self.enabled = alpha > 0

    def __call__(self, x, target):
        target = F.one_hot(target, self.num_classes).float()
        if not self.enabled:
            return x, target
        lam = float(np.random.beta(self.alpha, self.alpha))
        return lam * x + (1 - lam) * x.flip(0), lam * target + (1 - lam) * target.flip(0)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


def lr_at(update, total, args):
    if update < args.warmup_updates:
        return args.warmup_lr + (args.lr - args.warmup_lr) * update / args.warmup_updates
    progress = (update - args.warmup_updates) / (total - args.warmup_updates)
    return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * progress))


def as_tensors(dataset):
    images = torch.stack(dataset.images)
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    return (images - mean) / std, torch.tensor(dataset.targets)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    loss, correct, seen = 0.0, 0, 0
    for x, y in loader:
        output = model(x)
        loss += F.cross_entropy(output, y, reduction="sum").item()
        correct += (output.argmax(dim=1) == y).sum().item()
        seen += y.shape[0]
    return OrderedDict(loss=loss / seen, top1=100.0 * correct / seen)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)

    images, labels = as_tensors(toydata.Shapes(train=True))
    order = torch.randperm(len(labels))
    loader_train = DataLoader(
        TensorDataset(images[order[:760]], labels[order[:760]]),
        batch_size=args.batch_size, shuffle=True, drop_last=True,
    )
    loader_eval = DataLoader(TensorDataset(images[order[760:]], labels[order[760:]]), batch_size=140)
    loader_test = DataLoader(TensorDataset(*as_tensors(toydata.Shapes(train=False))), batch_size=120)

    model = conv_mixer()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    train_loss_fn = SoftTargetCrossEntropy()
    mixup_fn = Mixup(args.mixup, num_classes=6)

    total_updates, num_updates = args.epochs * len(loader_train), 0
    best_metric, best_state = -1.0, None
    for epoch in range(args.epochs):
        if epoch >= args.mixup_off_epoch:
            mixup_fn.enabled = False
        model.train()
        for x, y in loader_train:
            for group in optimizer.param_groups:
                group["lr"] = lr_at(num_updates, total_updates, args)
            x, y = mixup_fn(x, y)
            loss = train_loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            num_updates += 1

        eval_metrics = validate(model, loader_eval)
        print(f"Train: {epoch} loss {loss.item():.3f}  Test: " + str(dict(eval_metrics)))
        if eval_metrics["top1"] > best_metric:
            best_metric = eval_metrics["top1"]
            best_state = copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    print(f"*** Best metric: {best_metric:.2f}; held-out top1: {validate(model, loader_test)['top1']:.2f}")


if __name__ == "__main__":
    main()
