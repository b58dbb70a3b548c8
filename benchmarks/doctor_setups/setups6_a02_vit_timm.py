"""A tiny vision transformer on colored shapes, in the manner of timm's train.py."""

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from toydata import Shapes

args = SimpleNamespace(batch_size=60, lr=2e-3, min_lr=1e-5, weight_decay=0.05, epochs=40, warmup_epochs=1,
                       mixup=0.2, mixup_prob=0.8, smoothing=0.05, mean=0.5, std=0.2, seed=42)


class Attention(nn.Module):
    def __init__(self, dim, num_heads=4):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        attn = (q @ k.transpose(-2, -1)) * self.scale
        x = (attn.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class Block(nn.Module):
    def __init__(self, dim, mlp_ratio=2):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim * mlp_ratio), nn.GELU(), nn.Linear(dim * mlp_ratio, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, img_size=16, patch_size=4, num_classes=6, embed_dim=64, depth=3):
        super().__init__()
        num_patches = (img_size // patch_size) ** 2
        self.patch_embed = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.randn(1, num_patches + 1, embed_dim) * 0.02)
        self.blocks = nn.ModuleList([Block(embed_dim) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        return self.head(self.norm(x)[:, 0])


class CosineLRScheduler:
    """Counts updates in the param groups, so that a resumed optimizer goes on where it was."""

    def __init__(self, t_initial, warmup_t, lr_min):
        self.t_initial, self.warmup_t, self.lr_min = t_initial, warmup_t, lr_min

    def step_update(self, optimizer):
        for group in optimizer.param_groups:
            base = group.setdefault("initial_lr", group["lr"])
            t = group["num_updates"] = group.get("num_updates", -1) + 1
            if t < self.warmup_t:
                group["lr"] = base * (t + 1) / self.warmup_t
            else:
                done = min(1.0, (t - self.warmup_t) / max(1, self.t_initial - self.warmup_t))
                group["lr"] = self.lr_min + 0.5 * (base - self.lr_min) * (1 + math.cos(math.pi * done))


def param_groups_weight_decay(model, weight_decay):
    decay, no_decay = [], []
    for name, param in model.named_parameters():
        (no_decay if param.ndim <= 1 or name in ("cls_token", "pos_embed") else decay).append(param)
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def setup():
    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    normalize = lambda img: (img - args.mean) / args.std
    flip = lambda img: img.flip(-1) if torch.rand(()) < 0.5 else img
    train = DataLoader(Shapes(True, transform=lambda img: normalize(flip(img))), args.batch_size, shuffle=True)
    val = DataLoader(Shapes(False, transform=normalize), args.batch_size)
    model = VisionTransformer()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    updates_per_epoch = len(train)
    scheduler = CosineLRScheduler(args.epochs * updates_per_epoch, args.warmup_epochs * updates_per_epoch, args.min_lr)

    def step(model, batch, optimizer, loss):
        x, y = batch
        scheduler.step_update(optimizer)
        lam = float(rng.beta(args.mixup, args.mixup)) if rng.random() < args.mixup_prob else 1.0
        perm = torch.randperm(len(x))
        output = model(lam * x + (1 - lam) * x[perm])
        value = lam * loss(output, y) + (1 - lam) * loss(output, y[perm])
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        return value

    loss = nn.CrossEntropyLoss(label_smoothing=args.smoothing)
    return dict(model=model, train=train, val=val, loss=loss, optimizer=optimizer, step=step, task="classify")
