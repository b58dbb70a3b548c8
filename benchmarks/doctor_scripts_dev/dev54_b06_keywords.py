"""Signals of four kinds, told apart by a 1-D ResNet: bf16 autocast, accumulation, mixup, EMA, warmup and cosine."""
import copy
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves


@dataclass
class Config:
    classes: int = 4
    width: int = 24
    epochs: int = 10
    batch_size: int = 32
    accumulate: int = 2
    lr: float = 4e-3
    weight_decay: float = 0.01
    warmup_steps: int = 15
    ema_decay: float = 0.95
    mixup_alpha: float = 0.2
    mask_width: int = 8
    max_norm: float = 2.0
    amp: bool = True
    seed: int = 0


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv1d(inputs, outputs, 5, stride, 2, bias=False)
        self.norm1 = nn.GroupNorm(4, outputs)
        self.conv2 = nn.Conv1d(outputs, outputs, 5, 1, 2, bias=False)
        self.norm2 = nn.GroupNorm(4, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        y = F.silu(self.norm1(self.conv1(x)))
        return F.silu(self.norm2(self.conv2(y)) + self.skip(x))


class SignalNet(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.stem = nn.Conv1d(1, cfg.width, 7, padding=3)
        self.blocks = nn.Sequential(Block(cfg.width, cfg.width, 2), Block(cfg.width, 2 * cfg.width, 2))
        self.head = nn.Linear(2 * cfg.width, cfg.classes)

    def forward(self, x):
        return self.head(self.blocks(F.silu(self.stem(x))).mean(-1))


class ModelEma:
    def __init__(self, model, decay):
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for average, value in zip(self.module.state_dict().values(), model.state_dict().values()):
            average.lerp_(value, 1 - self.decay)


def time_mask(x, width):
    """Silences one stretch of each signal (SpecAugment in the time domain)."""
    length = x.size(-1)
    start = torch.randint(0, length - width, (x.size(0), 1, 1))
    position = torch.arange(length).view(1, 1, -1)
    masked = (position >= start) & (position < start + width)
    return x.masked_fill(masked, 0.0)


def mixup(x, y, alpha):
    lam = torch.distributions.Beta(alpha, alpha).sample().item()
    partner = torch.randperm(x.size(0))
    return lam * x + (1 - lam) * x[partner], y, y[partner], lam


class Trainer:
    def __init__(self, cfg, model, train_loader, valid_loader):
        self.cfg, self.model = cfg, model
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.ema = ModelEma(model, cfg.ema_decay)
        decay = [p for p in model.parameters() if p.ndim > 1]
        rest = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=cfg.lr)
        self.total_steps = cfg.epochs * (len(train_loader) // cfg.accumulate)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.lr_factor)

    def lr_factor(self, step):
        if step < self.cfg.warmup_steps:
            return (step + 1) / self.cfg.warmup_steps
        progress = (step - self.cfg.warmup_steps) / max(1, self.total_steps - self.cfg.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    def loss(self, x, y):
        x = time_mask(x, self.cfg.mask_width)
        x, first, second, lam = mixup(x, y, self.cfg.mixup_alpha)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.cfg.amp):
            logits = self.model(x)
        logits = logits.float()
        return lam * F.cross_entropy(logits, first) + (1 - lam) * F.cross_entropy(logits, second)

    def train_epoch(self):
        self.model.train()
        total = 0.0
        for i, (x, y) in enumerate(self.train_loader, start=1):
            loss = self.loss(x, y)
            (loss / self.cfg.accumulate).backward()
            total += loss.item()
            if i % self.cfg.accumulate == 0:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.max_norm)
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                self.scheduler.step()
                self.ema.update(self.model)
        return total / len(self.train_loader)

    @torch.no_grad()
    def validate(self):
        right, count = 0, 0
        for x, y in self.valid_loader:
            right += (self.ema.module(x).argmax(-1) == y).sum().item()
            count += y.numel()
        return right / count

    def fit(self):
        for epoch in range(self.cfg.epochs):
            loss = self.train_epoch()
            print(f"epoch {epoch + 1}: loss {loss:.4f}, accuracy of the average {self.validate():.4f}")


def main():
    cfg = Config()
    torch.manual_seed(cfg.seed)
    train_set = TensorDataset(*waves(1280, seed=0))
    valid_set = TensorDataset(*waves(320, seed=1))
    train_loader = DataLoader(train_set, cfg.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(valid_set, 64)
    Trainer(cfg, SignalNet(cfg), train_loader, valid_loader).fit()


if __name__ == "__main__":
    main()
