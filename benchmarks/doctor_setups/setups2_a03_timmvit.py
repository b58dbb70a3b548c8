"""A small hybrid vision transformer in the manner of timm: conv stem, mixup, soft targets, warm-up and cosine."""

import math
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes


class ConvStem(nn.Module):
    def __init__(self, in_chans=3, embed_dim=48):
        super().__init__()
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, embed_dim // 2, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(embed_dim // 2), nn.GELU(),
            nn.Conv2d(embed_dim // 2, embed_dim, 3, stride=2, padding=1),
        )

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)  # BCHW -> BNC


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio=2.0, drop=0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Dropout(drop), nn.Linear(hidden, dim), nn.Dropout(drop))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, img_size=16, num_classes=6, embed_dim=48, depth=3, num_heads=4, drop_rate=0.05):
        super().__init__()
        self.patch_embed = ConvStem(3, embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // 4) ** 2, embed_dim))
        self.blocks = nn.ModuleList([Block(embed_dim, num_heads, drop=drop_rate) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward_features(self, x):
        x = self.patch_embed(x) + self.pos_embed
        for blk in self.blocks:
            x = blk(x)
        return self.norm(x)

    def forward(self, x):
        return self.head(self.forward_features(x).mean(dim=1))


class Mixup:
    def __init__(self, mixup_alpha=0.2, prob=0.8, num_classes=6):
        self.alpha, self.prob, self.num_classes = mixup_alpha, prob, num_classes
        self.rng = np.random.default_rng(0)

    def __call__(self, x, target):
        lam = float(self.rng.beta(self.alpha, self.alpha)) if self.rng.random() < self.prob else 1.0
        onehot = F.one_hot(target, self.num_classes).float()
        x = x * lam + x.flip(0) * (1.0 - lam)
        target = onehot * lam + onehot.flip(0) * (1.0 - lam)
        return x, target


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        if target.ndim == 1:
            target = F.one_hot(target, x.shape[-1]).float()
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def setup():
    args = SimpleNamespace(batch_size=64, lr_base=8e-3, lr_base_size=256, weight_decay=0.05, warmup=20, updates=800, min_lr=1e-5, clip_grad=1.0)
    torch.manual_seed(42)
    normalize = lambda image: (image - 0.5) / 0.25
    loader_train = DataLoader(Shapes(train=True, count=1600, transform=normalize), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=normalize), 120)
    model = VisionTransformer()
    args.lr = args.lr_base * args.batch_size / args.lr_base_size
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    mixup_fn = Mixup()

    def get_lr(t):
        if t < args.warmup:
            return args.lr * (t + 1) / args.warmup
        return args.min_lr + 0.5 * (args.lr - args.min_lr) * (1 + math.cos(math.pi * min(t / args.updates, 1.0)))

    def train_step(model, batch, optimizer, loss_fn):
        for group in optimizer.param_groups:
            group["num_updates"] = group.get("num_updates", -1) + 1
            group["lr"] = get_lr(group["num_updates"])
        input, target = mixup_fn(*batch)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        return loss

    return dict(model=model, train=loader_train, val=loader_eval, loss=SoftTargetCrossEntropy(), optimizer=optimizer, step=train_step)
