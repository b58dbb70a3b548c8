"""Patterns of failing dies on wafers. Most wafers show none; rare patterns weigh more in the loss.

The weights that are evaluated are a moving average of those that are trained.
"""
import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

PATTERNS = ["none", "center", "donut", "edge", "scratch"]
PRIORS = [0.66, 0.11, 0.09, 0.08, 0.06]
SIZE = 26


@dataclass
class Config:
    wafers: int = 2000
    val_share: float = 0.25
    batch_size: int = 32
    epochs: int = 22
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_steps: int = 40
    ema_decay: float = 0.98
    dropout: float = 0.1
    seed: int = 0


def draw_wafer(pattern, rng):
    """0 beside the wafer, -1 a good die, 1 a failing one."""
    y, x = np.mgrid[0:SIZE, 0:SIZE] - (SIZE - 1) / 2
    radius = np.hypot(y, x)
    fails = rng.random((SIZE, SIZE)) < 0.08
    chance = rng.random((SIZE, SIZE))
    dy, dx = rng.uniform(-2, 2, 2)
    if pattern == "center":
        fails |= (np.hypot(y - dy, x - dx) < rng.uniform(3, 5)) & (chance < 0.7)
    elif pattern == "donut":
        ring = np.hypot(y - dy, x - dx)
        fails |= (ring > 5) & (ring < 8.5) & (chance < 0.6)
    elif pattern == "edge":
        turn = (np.arctan2(y, x) + rng.uniform(0, 2 * np.pi)) % (2 * np.pi)
        fails |= (radius > 10.5) & (turn < rng.uniform(2.5, 6.3)) & (chance < 0.65)
    elif pattern == "scratch":
        angle, half = rng.uniform(0, np.pi), rng.uniform(4.5, 7.5)
        sy, sx = rng.uniform(-4, 4, 2)
        along = (y - sy) * np.sin(angle) + (x - sx) * np.cos(angle)
        across = (y - sy) * np.cos(angle) - (x - sx) * np.sin(angle)
        fails |= (np.abs(along) < half) & (np.abs(across) < 0.8) & (chance < 0.85)
    return np.where(radius > SIZE / 2, 0.0, np.where(fails, 1.0, -1.0)).astype(np.float32)


def make_splits(cfg):
    rng = np.random.default_rng(cfg.seed)
    labels = rng.choice(len(PATTERNS), cfg.wafers, p=PRIORS)
    maps = np.stack([draw_wafer(PATTERNS[label], rng) for label in labels])[:, None]
    order = rng.permutation(len(maps))
    cut = int(len(maps) * (1 - cfg.val_share))
    parts = []
    for index in (order[:cut], order[cut:]):
        parts.append(TensorDataset(torch.from_numpy(maps[index]), torch.from_numpy(labels[index]).long()))
    return parts


class WaferNet(nn.Module):
    def __init__(self, dropout):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 24, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(24, 48, 3, padding=1, bias=False)
        self.conv3 = nn.Conv2d(48, 64, 3, padding=1, bias=False)
        self.norm1, self.norm2, self.norm3 = nn.BatchNorm2d(24), nn.BatchNorm2d(48), nn.BatchNorm2d(64)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(64 * 2, len(PATTERNS))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), 2)
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), 2)
        x = F.relu(self.norm3(self.conv3(x)))
        x = torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)
        return self.fc(self.drop(x))


class Average:
    """A copy of the network whose weights follow slowly."""

    def __init__(self, model, decay):
        self.model = copy.deepcopy(model).eval()
        self.model.requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = self.decay
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values()):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


class WaferTrainer:
    def __init__(self, cfg):
        self.cfg = cfg
        train_set, val_set = make_splits(cfg)
        self.train_loader = DataLoader(train_set, batch_size=cfg.batch_size, shuffle=True)
        self.val_loader = DataLoader(val_set, batch_size=125)
        counts = torch.bincount(train_set.tensors[1], minlength=len(PATTERNS)).float()
        weights = counts.sum() / (len(PATTERNS) * counts)
        self.criterion = nn.CrossEntropyLoss(weight=weights)
        self.model = WaferNet(cfg.dropout)
        self.average = Average(self.model, cfg.ema_decay)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=cfg.lr, momentum=cfg.momentum, weight_decay=cfg.weight_decay
        )
        self.total_steps = cfg.epochs * len(self.train_loader)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.lr_factor)

    def lr_factor(self, step):
        warmup = self.cfg.warmup_steps
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, self.total_steps - warmup))
        return 0.5 * (1 + math.cos(math.pi * progress))

    def step(self, maps, labels):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.criterion(self.model(maps), labels)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.average.update(self.model)
        return loss.item()

    @torch.no_grad()
    def evaluate(self):
        network = self.average.model
        confusion = torch.zeros(len(PATTERNS), len(PATTERNS))
        for maps, labels in self.val_loader:
            for truth, guess in zip(labels, network(maps).argmax(dim=1)):
                confusion[truth, guess] += 1
        return confusion.diagonal() / confusion.sum(dim=1).clamp(min=1)

    def fit(self):
        for epoch in range(1, self.cfg.epochs + 1):
            self.model.train()
            losses = [self.step(maps, labels) for maps, labels in self.train_loader]
            recalls = self.evaluate()
            detail = " ".join(f"{name} {recall:.2f}" for name, recall in zip(PATTERNS, recalls.tolist()))
            print(f"[{epoch:2d}] loss {np.mean(losses):.4f} | balanced accuracy {recalls.mean():.4f} | {detail}")


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    WaferTrainer(config).fit()
