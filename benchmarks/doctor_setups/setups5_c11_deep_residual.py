"""A very deep residual MLP for tabular regression: 24 pre-norm blocks, each with a learned scale."""

from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import houses


@dataclass
class Config:
    features: int = 8
    width: int = 32
    depth: int = 24
    dropout: float = 0.1
    lr: float = 2e-3
    weight_decay: float = 1e-2
    batch_size: int = 64
    train_size: int = 1600
    val_size: int = 400


class ResidualBlock(nn.Module):
    def __init__(self, width, scale, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        self.act = nn.GELU()
        self.drop = nn.Dropout(dropout)
        self.alpha = nn.Parameter(torch.tensor(scale))

    def forward(self, x):
        return x + self.alpha * self.fc2(self.drop(self.act(self.fc1(self.norm(x)))))


class DeepResMLP(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        scale = cfg.depth ** -0.5
        self.stem = nn.Linear(cfg.features, cfg.width)
        self.blocks = nn.ModuleList([ResidualBlock(cfg.width, scale, cfg.dropout) for _ in range(cfg.depth)])
        self.norm = nn.LayerNorm(cfg.width)
        self.head = nn.Linear(cfg.width, 1)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def build_optimizer(model, cfg):
    """No decay of biases, norms and scales."""
    decay = [p for p in model.parameters() if p.dim() >= 2]
    plain = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": cfg.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=cfg.lr)


def build_loaders(cfg):
    features, price = houses(cfg.train_size + cfg.val_size, seed=5)
    n = cfg.train_size
    target = ((price - price[:n].mean()) / price[:n].std()).unsqueeze(1)
    train = TensorDataset(features[:n], target[:n])
    val = TensorDataset(features[n:], target[n:])
    return DataLoader(train, cfg.batch_size, shuffle=True), DataLoader(val, 200)


class WarmupStep:
    def __init__(self, lr, warmup=30, max_norm=1.0):
        self.lr, self.warmup, self.max_norm, self.seen = lr, warmup, max_norm, 0

    def __call__(self, model, batch, optimizer, loss):
        x, y = batch
        self.seen += 1
        for group in optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, self.seen / self.warmup)
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)
        optimizer.step()
        return value


def setup():
    cfg = Config()
    torch.manual_seed(10)
    train, val = build_loaders(cfg)
    model = DeepResMLP(cfg)
    return dict(
        model=model, train=train, val=val, loss=nn.MSELoss(), optimizer=build_optimizer(model, cfg),
        step=WarmupStep(cfg.lr), task="regress",
    )
