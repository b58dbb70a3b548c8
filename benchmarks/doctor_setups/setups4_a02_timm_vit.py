"""A tiny vision transformer, in the manner of timm's train.py: mixup, soft targets, cosine schedule by updates."""

import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

MEAN, STD = torch.tensor([0.5, 0.47, 0.5]).view(3, 1, 1), torch.tensor([0.17, 0.15, 0.18]).view(3, 1, 1)


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio=2.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        hidden = int(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, img_size=16, patch_size=4, num_classes=6, embed_dim=48, depth=3, num_heads=4):
        super().__init__()
        self.patch_embed = nn.Conv2d(3, embed_dim, patch_size, patch_size)
        num_patches = (img_size // patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, num_patches + 1, embed_dim))
        self.blocks = nn.ModuleList([Block(embed_dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        if target.ndim == 1:
            target = F.one_hot(target, x.shape[-1]).float()
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


class Mixup:
    def __init__(self, alpha, num_classes, label_smoothing=0.0):
        self.alpha, self.num_classes, self.label_smoothing = alpha, num_classes, label_smoothing

    def __call__(self, x, target):
        lam = float(torch.distributions.Beta(self.alpha, self.alpha).sample())
        x = x * lam + x.flip(0) * (1.0 - lam)
        onehot = F.one_hot(target, self.num_classes).float()
        onehot = onehot * (1.0 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return x, onehot * lam + onehot.flip(0) * (1.0 - lam)


def cosine_factor(update, warmup_t, t_initial, lr_min=0.02):
    if update < warmup_t:
        return (update + 1) / warmup_t
    progress = min(1.0, (update - warmup_t) / max(1, t_initial - warmup_t))
    return lr_min + (1 - lr_min) * 0.5 * (1 + math.cos(math.pi * progress))


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim in (2, 4)]
    no_decay = [p for p in model.parameters() if p.ndim not in (2, 4)]
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def setup():
    args = SimpleNamespace(epochs=40, warmup_epochs=2, batch_size=50, lr=2e-3, weight_decay=0.05, clip_grad=1.0,
                           mixup=0.2, smoothing=0.05, seed=42)
    torch.manual_seed(args.seed)
    normalize = lambda image: (image - MEAN) / STD
    loader_train = DataLoader(Shapes(train=True, transform=normalize), args.batch_size, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=normalize), args.batch_size)

    model = VisionTransformer()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, args.weight_decay), lr=args.lr)
    mixup_fn = Mixup(args.mixup, num_classes=6, label_smoothing=args.smoothing)
    updates_per_epoch = len(loader_train)
    schedule = dict(warmup_t=args.warmup_epochs * updates_per_epoch, t_initial=args.epochs * updates_per_epoch)

    def train_one_batch(model, batch, optimizer, loss_fn):
        input, target = mixup_fn(*batch)
        for group in optimizer.param_groups:
            update = group.get("num_updates", 0)
            group.setdefault("base_lr", group["lr"])
            group["lr"] = group["base_lr"] * cosine_factor(update, **schedule)
            group["num_updates"] = update + 1
        optimizer.zero_grad()
        loss = loss_fn(model(input), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        optimizer.step()
        return loss

    return dict(model=model, train=loader_train, val=loader_eval, loss=SoftTargetCrossEntropy(),
                optimizer=optimizer, step=train_one_batch, task="classify")
