"""Digits with a small pre-activation ResNet with GroupNorm. Nested configuration with _target_ entries, as hydra has it."""

import ast
import importlib
import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

CONFIG = {
    "seed": 7,
    "data": {
        "train": {"count": 2400, "seed": 0},
        "valid": {"count": 400, "seed": 1},
        "loader": {"batch_size": 48, "num_workers": 0},
    },
    "model": {"channels": (16, 16, 32, 64), "strides": (1, 2, 1), "groups": 4, "num_classes": 10},
    "optimizer": {"_target_": "torch.optim.AdamW", "lr": 1e-3, "weight_decay": 0.02, "betas": (0.9, 0.98)},
    "scheduler": {
        "_target_": "torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
        "T_0": 4,
        "T_mult": 2,
        "eta_min": 1e-5,
    },
    "criterion": {"_target_": "torch.nn.CrossEntropyLoss", "label_smoothing": 0.05},
    "trainer": {"epochs": 28, "clip": 5.0},
}
OVERRIDES = ["optimizer.lr=0.002", "trainer.clip=3.0"]


class Node(dict):
    """A dictionary whose entries are attributes as well."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def to_node(value):
    if isinstance(value, dict):
        return Node({key: to_node(entry) for key, entry in value.items()})
    return value


def apply_overrides(config, entries):
    for entry in entries:
        path, value = entry.split("=", 1)
        *parents, last = path.split(".")
        node = config
        for parent in parents:
            node = node[parent]
        if last not in node:
            raise KeyError(f"no entry {path}")
        node[last] = ast.literal_eval(value)
    return config


def instantiate(node, *arguments):
    module, name = node["_target_"].rsplit(".", 1)
    options = {key: value for key, value in node.items() if key != "_target_"}
    return getattr(importlib.import_module(module), name)(*arguments, **options)


class PreActBlock(nn.Module):
    def __init__(self, inner, outer, stride, groups):
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inner)
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm2 = nn.GroupNorm(groups, outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or inner != outer:
            self.shortcut = nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x):
        active = F.silu(self.norm1(x))
        skip = x if self.shortcut is None else self.shortcut(active)
        out = self.conv1(active)
        out = self.conv2(F.silu(self.norm2(out)))
        return out + skip


class PreActResNet(nn.Module):
    def __init__(self, channels, strides, groups, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, channels[0], 3, padding=1, bias=False), nn.MaxPool2d(2))
        self.blocks = nn.Sequential(
            *[PreActBlock(a, b, stride, groups) for a, b, stride in zip(channels, channels[1:], strides)]
        )
        self.norm = nn.GroupNorm(groups, channels[-1])
        self.head = nn.Linear(channels[-1], num_classes)

    def forward(self, x):
        x = F.silu(self.norm(self.blocks(self.stem(x))))
        return self.head(x.mean((2, 3)))


def build_loaders(cfg):
    train_images, train_labels = draw_digits(**cfg.train)
    valid_images, valid_labels = draw_digits(**cfg.valid)
    train_images, valid_images = train_images.float() / 255, valid_images.float() / 255
    mean, std = train_images.mean(), train_images.std()
    train_set = TensorDataset((train_images - mean) / std, train_labels)
    valid_set = TensorDataset((valid_images - mean) / std, valid_labels)
    return DataLoader(train_set, shuffle=True, **cfg.loader), DataLoader(valid_set, shuffle=False, **cfg.loader)


@torch.no_grad()
def validate(model, loader):
    model.eval()
    correct = total = 0
    loss = 0.0
    for images, labels in loader:
        logits = model(images)
        loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(1) == labels).sum().item()
        total += len(labels)
    return loss / total, correct / total


def run(cfg):
    random.seed(cfg.seed)
    np.random.seed(cfg.seed)
    torch.manual_seed(cfg.seed)
    train_loader, valid_loader = build_loaders(cfg.data)
    model = PreActResNet(**cfg.model)
    criterion = instantiate(cfg.criterion)
    optimizer = instantiate(cfg.optimizer, model.parameters())
    scheduler = instantiate(cfg.scheduler, optimizer)
    for epoch in range(cfg.trainer.epochs):
        model.train()
        running, seen = 0.0, 0
        for index, (images, labels) in enumerate(train_loader):
            optimizer.zero_grad(set_to_none=True)
            loss = criterion(model(images), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.trainer.clip)
            optimizer.step()
            # the restarts count epochs; fractions of them are given after every batch
            scheduler.step(epoch + (index + 1) / len(train_loader))
            running += loss.item() * len(labels)
            seen += len(labels)
        valid_loss, accuracy = validate(model, valid_loader)
        rate = optimizer.param_groups[0]["lr"]
        print(
            f"epoch {epoch + 1:2d} train {running / seen:.4f} valid {valid_loss:.4f} "
            f"accuracy {accuracy:.4f} next lr {rate:.2e}",
            flush=True,
        )
    return accuracy


if __name__ == "__main__":
    run(apply_overrides(to_node(CONFIG), OVERRIDES))
