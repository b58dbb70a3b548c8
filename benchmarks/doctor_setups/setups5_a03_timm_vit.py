"""A tiny ViT with mixup, EMA and a cosine schedule, after timm's train.py."""
import copy
import math
from types import SimpleNamespace

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio=2.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, num_heads, batch_first=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, int(dim * mlp_ratio)), nn.GELU(), nn.Linear(int(dim * mlp_ratio), dim))

    def forward(self, x):
        y = self.norm1(x)
        x = x + self.attn(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, num_classes=1000, embed_dim=64, depth=2, num_heads=4):
        super().__init__()
        self.embed_dim = embed_dim
        self.patch_embed = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(32, embed_dim, 3, stride=2, padding=1)
        )
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, embed_dim))
        self.blocks = nn.Sequential(*[Block(embed_dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim)
        self.reset_classifier(num_classes)

    def reset_classifier(self, num_classes):
        self.head = nn.Linear(self.embed_dim, num_classes)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


class ModelWithEma(nn.Module):
    """Trains `module`, evaluates its moving average."""

    def __init__(self, module, decay):
        super().__init__()
        self.module, self.decay = module, decay
        self.ema = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self):
        for ema_v, model_v in zip(self.ema.parameters(), self.module.parameters()):
            ema_v.mul_(self.decay).add_(model_v, alpha=1 - self.decay)

    def forward(self, x):
        return self.module(x) if self.training else self.ema(x)


class SoftTargetCrossEntropy(nn.Module):
    def forward(self, x, target):
        if target.ndim == 1:
            target = F.one_hot(target, x.shape[1]).to(x.dtype)
        return torch.sum(-target * F.log_softmax(x, dim=-1), dim=-1).mean()


def mixup(x, y, args):
    lam = float(torch.distributions.Beta(args.mixup, args.mixup).sample())
    y = F.one_hot(y, args.num_classes).float()
    target = y * lam + y.flip(0) * (1.0 - lam)
    return x * lam + x.flip(0) * (1.0 - lam), target


def create_optimizer(args, model):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return torch.optim.AdamW([dict(params=decay), dict(params=no_decay, weight_decay=0.0)], lr=args.lr, weight_decay=args.weight_decay)


class Trainer:
    def __init__(self, args, updates):
        self.args, self.updates, self.optimizer = args, updates, None

    def __call__(self, model, batch, optimizer, loss_fn):
        if optimizer is not self.optimizer:
            self.optimizer, self.num_updates = optimizer, 0
        t, args = self.num_updates, self.args
        scale = (t + 1) / args.warmup if t < args.warmup else 0.5 * (1 + math.cos(math.pi * min(1.0, t / self.updates)))
        for group in optimizer.param_groups:
            group["lr"] = max(args.lr * scale, args.min_lr)
        x, target = mixup(*batch, args)
        loss = loss_fn(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.update()
        self.num_updates += 1
        return loss


def setup():
    torch.manual_seed(42)
    args = SimpleNamespace(lr=2e-3, min_lr=1e-5, weight_decay=0.02, warmup=15, epochs=60, mixup=0.2, num_classes=6, ema_decay=0.95)
    transform = lambda image: (image - 0.5) / 0.2
    loader_train = DataLoader(Shapes(train=True, transform=transform), batch_size=64, shuffle=True, drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=transform), batch_size=120)
    model = VisionTransformer()
    model.reset_classifier(args.num_classes)
    optimizer = create_optimizer(args, model)
    return dict(model=ModelWithEma(model, args.ema_decay), train=loader_train, val=loader_eval, loss=SoftTargetCrossEntropy(),
                optimizer=optimizer, step=Trainer(args, args.epochs * len(loader_train)), task="classify")
