# Corner regression with a home-grown Trainer
from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Iterator

import torch
from torch import nn

from toydata import Shapes


@dataclass
class TrainerConfig:
    max_epochs: int = 25
    batch_size: int = 50
    learning_rate: float = 2e-3
    betas: tuple = (0.9, 0.95)
    grad_norm_clip: float = 1.0
    weight_decay: float = 0.01
    warmup_fraction: float = 0.1
    image_size: int = 16


@dataclass
class Meter:
    values: list = field(default_factory=list)

    def add(self, value: torch.Tensor):
        self.values.append(value.detach().flatten())

    @property
    def mean(self) -> float:
        return torch.cat(self.values).mean().item()


def make_arrays(train: bool, size: int):
    base = Shapes(train, size=size)
    images = torch.stack(base.images).sub_(0.5).mul_(3)
    points = torch.stack(base.boxes)
    points = points * 2 - 1  # corners in -1 .. 1
    return images, points


def batches(images, points, size, shuffle, generator=None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    order = torch.randperm(len(images), generator=generator) if shuffle else torch.arange(len(images))
    for index in order.split(size):
        yield images[index], points[index]


class CoordRegressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.LeakyReLU(0.1),
            nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.LeakyReLU(0.1),
            nn.Conv2d(32, 32, 3, stride=2, padding=1), nn.GroupNorm(4, 32), nn.LeakyReLU(0.1),
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 64), nn.LeakyReLU(0.1), nn.Linear(64, 4))
        self.out = nn.Hardtanh(-1.2, 1.2)
        self.apply(self._init)

    @staticmethod
    def _init(module):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, a=0.1)
            nn.init.zeros_(module.bias)

    def forward(self, x, targets=None):
        pred = self.out(self.head(self.trunk(x)) * 0.3)
        loss = None
        if targets is not None:
            loss = nn.functional.smooth_l1_loss(pred, targets, beta=0.1)
        return pred, loss


class Trainer:
    def __init__(self, model, train, test, config: TrainerConfig):
        self.model, self.train_data, self.test_data, self.config = model, train, test, config
        decay = [p for p in model.parameters() if p.dim() > 1]
        rest = [p for p in model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decay, "weight_decay": config.weight_decay}, {"params": rest, "weight_decay": 0.0}],
            lr=config.learning_rate, betas=config.betas)
        self.total = config.max_epochs * math.ceil(len(train[0]) / config.batch_size)
        self.seen = 0

    def _set_lr(self):
        warm = self.config.warmup_fraction * self.total
        if self.seen < warm:
            factor = (self.seen + 1) / warm
        else:
            factor = max(0.05, 0.5 * (1 + math.cos(math.pi * (self.seen - warm) / (self.total - warm))))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * factor

    def run_epoch(self, split: str) -> float:
        is_train = split == "train"
        self.model.train(is_train)
        losses, pixels = Meter(), Meter()
        for x, y in batches(*(self.train_data if is_train else self.test_data), self.config.batch_size, is_train):
            with torch.set_grad_enabled(is_train):
                pred, loss = self.model(x, y)
            losses.add(loss)
            pixels.add((pred - y).abs().mean(1) * self.config.image_size / 2)
            if is_train:
                self._set_lr()
                self.model.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_norm_clip)
                self.optimizer.step()
                self.seen += 1
        print(f"{split}: loss {losses.mean:.5f} error {pixels.mean:.3f} px")
        return pixels.mean

    def train(self):
        best = float("inf")
        for epoch in range(self.config.max_epochs):
            print(f"--- epoch {epoch + 1} lr {self.optimizer.param_groups[0]['lr']:.2e}")
            self.run_epoch("train")
            best = min(best, self.run_epoch("test"))
        return best


if __name__ == "__main__":
    torch.manual_seed(1337)
    cfg = TrainerConfig()
    trainer = Trainer(CoordRegressor(), make_arrays(True, cfg.image_size), make_arrays(False, cfg.image_size), cfg)
    print(f"best test error: {trainer.train():.3f} px")
