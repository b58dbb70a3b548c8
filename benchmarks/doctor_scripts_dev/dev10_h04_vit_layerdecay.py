"""A tiny vision transformer: AdamW with layer-wise rates, drop path, warmup and cosine by step, clipping."""
import logging
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("train")


@dataclass
class Config:
    dim: int = 64
    depth: int = 3
    heads: int = 4
    drop_path: float = 0.05
    batch_size: int = 100
    epochs: int = 14
    warmup_steps: int = 60
    lr: float = 1.5e-3
    min_lr: float = 1e-5
    layer_decay: float = 0.85
    weight_decay: float = 0.03
    clip: float = 5.0


class DropPath(nn.Module):
    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def forward(self, x):
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.rate
        return x * keep / (1 - self.rate)


class Block(nn.Module):
    def __init__(self, dim, heads, drop_path):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))
        self.drop_path = DropPath(drop_path)

    def attention(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))

    def forward(self, x):
        x = x + self.drop_path(self.attention(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))


class TinyViT(nn.Module):
    def __init__(self, cfg, size=16, patch=4, classes=10):
        super().__init__()
        self.patch_embed = nn.Sequential(  # convolutions see across the borders of patches
            nn.Conv2d(1, cfg.dim // 2, 3, 2, 1), nn.GELU(), nn.Conv2d(cfg.dim // 2, cfg.dim, 3, 2, 1))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, cfg.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, cfg.dim))
        rates = torch.linspace(0, cfg.drop_path, cfg.depth).tolist()
        self.blocks = nn.ModuleList(Block(cfg.dim, cfg.heads, rate) for rate in rates)
        self.norm = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def param_groups(model, cfg):
    """Earlier layers get lower rates; vectors and embeddings are not decayed."""
    groups = {}
    for name, parameter in model.named_parameters():
        if name.startswith("blocks."):
            layer = int(name.split(".")[1]) + 1
        else:
            layer = 0 if name.startswith(("patch_embed", "cls_token", "pos_embed")) else cfg.depth + 1
        decay = 0.0 if parameter.ndim == 1 or name in ("cls_token", "pos_embed") else cfg.weight_decay
        scale = cfg.layer_decay ** (cfg.depth + 1 - layer)
        key = (layer, decay)
        groups.setdefault(key, {"params": [], "weight_decay": decay, "lr_scale": scale})["params"].append(parameter)
    return list(groups.values())


def rate(step, total, cfg):
    if step < cfg.warmup_steps:
        return cfg.lr * (step + 1) / cfg.warmup_steps
    progress = (step - cfg.warmup_steps) / (total - cfg.warmup_steps)
    return cfg.min_lr + 0.5 * (cfg.lr - cfg.min_lr) * (1 + math.cos(math.pi * progress))


def main():
    cfg = Config()
    torch.manual_seed(42)
    train_x, train_y = draw_digits(3000, seed=0)
    val_x, val_y = draw_digits(500, seed=1)
    train_x, val_x = train_x.float() / 255, val_x.float() / 255
    mean, std = train_x.mean(), train_x.std()
    train_x, val_x = (train_x - mean) / std, (val_x - mean) / std

    model = TinyViT(cfg)
    optimizer = torch.optim.AdamW(param_groups(model, cfg), lr=cfg.lr, betas=(0.9, 0.98))
    steps_per_epoch = len(train_x) // cfg.batch_size
    total, step = steps_per_epoch * cfg.epochs, 0
    for epoch in range(cfg.epochs):
        model.train()
        running = 0.0
        for index in torch.randperm(len(train_x)).split(cfg.batch_size):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, total, cfg) * group["lr_scale"]
            loss = F.cross_entropy(model(train_x[index]), train_y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), cfg.clip)
            optimizer.step()
            running += loss.detach()
            step += 1
        model.eval()
        with torch.no_grad():
            hits = sum((model(x).argmax(-1) == y).sum() for x, y in zip(val_x.split(250), val_y.split(250)))
        log.info(f"epoch {epoch:2d} loss {float(running) / steps_per_epoch:.4f} val top1 {100 * float(hits) / len(val_x):.2f}")


if __name__ == "__main__":
    main()
