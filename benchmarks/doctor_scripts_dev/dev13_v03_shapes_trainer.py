"""Residual network on colored shapes.

Config -> build_* -> Trainer, as in the rest of the repo (`projects/shapes`).
"""
from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from toydata import NAMES, Shapes


@dataclass
class DataConfig:
    image_size: int = 16
    batch_size: int = 48
    train_count: int = 1200
    test_count: int = 300


@dataclass
class OptimConfig:
    lr: float = 0.03
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[int, ...] = (16, 21)
    gamma: float = 0.2
    max_grad_norm: float = 5.0


@dataclass
class Config:
    data: DataConfig = field(default_factory=DataConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    widths: tuple[int, ...] = (16, 32)
    blocks_per_stage: int = 1
    dropout: float = 0.5
    epochs: int = 24
    seed: int = 7


class ArrayImages(Dataset):
    """uint8 arrays of N x H x W x 3, as they lie in our .npz archives."""

    def __init__(self, arrays: np.ndarray, targets: np.ndarray):
        self.arrays, self.targets = arrays, targets

    @classmethod
    def export(cls, train: bool, count: int, size: int) -> "ArrayImages":
        source = Shapes(train=train, count=count, size=size)
        arrays = np.stack([(img.numpy().transpose(1, 2, 0) * 255).astype(np.uint8) for img in source.images])
        return cls(arrays, np.asarray(source.targets))

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int):
        x = torch.from_numpy(self.arrays[i]).permute(2, 0, 1)
        return x.float().div(127.5).sub(1.0), int(self.targets[i])


class ResidualBlock(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(x + self.bn2(self.conv2(h)))


class ShapeNet(nn.Module):
    def __init__(self, widths: tuple[int, ...], blocks_per_stage: int, num_classes: int, dropout: float):
        super().__init__()
        stages, previous = [], 3
        for width in widths:
            stage = [nn.Conv2d(previous, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            stage += [ResidualBlock(width) for _ in range(blocks_per_stage)]
            stages.append(nn.Sequential(*stage))
            previous = width
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(dropout)
        self.neck = nn.Linear(previous * 16, 64)
        self.classifier = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        x = F.relu(self.neck(self.dropout(x.flatten(1))))
        return self.classifier(self.dropout(x))


class Trainer:
    def __init__(self, cfg: Config, model: nn.Module, train_loader: DataLoader, test_loader: DataLoader):
        self.cfg, self.model = cfg, model
        self.train_loader, self.test_loader = train_loader, test_loader
        self.optimizer = torch.optim.SGD(
            model.parameters(), cfg.optim.lr, cfg.optim.momentum, weight_decay=cfg.optim.weight_decay, nesterov=True
        )
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, cfg.optim.milestones, cfg.optim.gamma)
        self.history = defaultdict(list)

    def train_step(self, x: Tensor, y: Tensor) -> float:
        loss = F.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.optim.max_grad_norm)
        self.optimizer.step()
        return loss.item()

    def train_epoch(self) -> float:
        self.model.train()
        total = 0.0
        for x, y in self.train_loader:
            total += self.train_step(x, y) * len(y)
        self.scheduler.step()
        return total / len(self.train_loader.dataset)

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        self.model.eval()
        loss, hits = 0.0, 0
        for x, y in self.test_loader:
            logits = self.model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            hits += int((logits.argmax(-1) == y).sum())
        n = len(self.test_loader.dataset)
        return {"test_loss": loss / n, "test_acc": hits / n}

    def fit(self) -> None:
        for epoch in range(1, self.cfg.epochs + 1):
            start = time.perf_counter()
            metrics = {"train_loss": self.train_epoch(), **self.evaluate()}
            for key, value in metrics.items():
                self.history[key].append(value)
            line = "  ".join(f"{k}={v:.4f}" for k, v in metrics.items())
            print(f"[{epoch:02d}/{self.cfg.epochs}] {line}  ({time.perf_counter() - start:.1f}s)")


def main(cfg: Config) -> None:
    torch.manual_seed(cfg.seed)
    print(dataclasses.asdict(cfg))
    train_set = ArrayImages.export(True, cfg.data.train_count, cfg.data.image_size)
    test_set = ArrayImages.export(False, cfg.data.test_count, cfg.data.image_size)
    model = ShapeNet(cfg.widths, cfg.blocks_per_stage, len(NAMES), cfg.dropout)
    trainer = Trainer(
        cfg, model,
        DataLoader(train_set, cfg.data.batch_size, shuffle=True),
        DataLoader(test_set, cfg.data.batch_size),
    )
    trainer.fit()
    print("final accuracy:", round(trainer.history["test_acc"][-1], 4))


if __name__ == "__main__":
    main(Config())
