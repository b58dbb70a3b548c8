"""A tiny vision transformer on digits, with a Trainer class: warm-up, EMA weights, the best epoch kept."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    train_count: int = 4000
    image_size: int = 16
    patch_size: int = 4
    dim: int = 64
    depth: int = 3
    heads: int = 4
    dropout: float = 0.1
    epochs: int = 18
    batch_size: int = 64
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_steps: int = 60
    label_smoothing: float = 0.05
    clip: float = 1.0
    ema_decay: float = 0.98
    dtype: torch.dtype = torch.float32
    seed: int = 3


class VisionTransformer(nn.Module):
    def __init__(self, cfg, classes=10):
        super().__init__()
        patches = (cfg.image_size // cfg.patch_size) ** 2
        self.embed = nn.Conv2d(1, cfg.dim, cfg.patch_size, stride=cfg.patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, cfg.dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, patches + 1, cfg.dim) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                cfg.dim,
                cfg.heads,
                dim_feedforward=2 * cfg.dim,
                dropout=cfg.dropout,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(cfg.depth)
        )
        self.norm = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, classes)

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        tokens = tokens + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(self.norm(tokens[:, 0]))


def make_data(cfg):
    train_x, train_y = draw_digits(cfg.train_count, seed=0)
    valid_x, valid_y = draw_digits(500, seed=1)
    test_x, test_y = draw_digits(500, seed=2)
    mean, std = train_x.float().mean(), train_x.float().std()

    def loader(x, y, **options):
        return DataLoader(TensorDataset((x.float() - mean) / std, y), **options)

    return (
        loader(train_x, train_y, batch_size=cfg.batch_size, shuffle=True, drop_last=True),
        loader(valid_x, valid_y, batch_size=250),
        loader(test_x, test_y, batch_size=250),
    )


class Trainer:
    def __init__(self, cfg, model, train_loader, valid_loader):
        self.cfg = cfg
        self.model = model.to(cfg.dtype)
        self.ema = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.train_loader, self.valid_loader = train_loader, valid_loader
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
        self.total_steps = cfg.epochs * len(train_loader)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self.rate)
        self.best_score, self.best_state = 0.0, None

    def rate(self, step):
        if step < self.cfg.warmup_steps:
            return (step + 1) / self.cfg.warmup_steps
        progress = (step - self.cfg.warmup_steps) / max(1, self.total_steps - self.cfg.warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    @torch.no_grad()
    def update_ema(self):
        for average, current in zip(self.ema.parameters(), self.model.parameters()):
            average.lerp_(current, 1 - self.cfg.ema_decay)

    def train_epoch(self):
        self.model.train()
        losses = []
        for images, labels in self.train_loader:
            logits = self.model(images.to(self.cfg.dtype)).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=self.cfg.label_smoothing)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.cfg.clip)
            self.optimizer.step()
            self.scheduler.step()
            self.update_ema()
            losses.append(loss.item())
        return sum(losses) / len(losses)

    @torch.no_grad()
    def evaluate(self, loader):
        loss, right, count = 0.0, 0, 0
        for images, labels in loader:
            logits = self.ema(images.to(self.cfg.dtype)).float()
            loss += F.cross_entropy(logits, labels, reduction="sum").item()
            right += (logits.argmax(-1) == labels).sum().item()
            count += len(labels)
        return {"loss": loss / count, "accuracy": right / count}

    def fit(self):
        for epoch in range(self.cfg.epochs):
            train_loss = self.train_epoch()
            result = self.evaluate(self.valid_loader)
            score = result["accuracy"]
            if score > self.best_score:
                self.best_score = score
                self.best_state = copy.deepcopy(self.ema.state_dict())
            print(
                f"[{epoch + 1:02d}/{self.cfg.epochs}] train {train_loss:.3f} "
                f"valid {result['loss']:.3f} accuracy {result['accuracy']:.3f} best {self.best_score:.3f}"
            )
        self.ema.load_state_dict(self.best_state)


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = Config()
    torch.manual_seed(config.seed)
    train_loader, valid_loader, test_loader = make_data(config)
    trainer = Trainer(config, VisionTransformer(config), train_loader, valid_loader)
    trainer.fit()
    print("test accuracy of the best epoch:", trainer.evaluate(test_loader)["accuracy"])
