"""A small vision transformer with a convolutional stem, trained as timm's train.py does: mixup, warmup, cosine."""

import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

from toydata import Shapes

IMAGE_MEAN = (0.48, 0.48, 0.48)
IMAGE_STD = (0.2, 0.2, 0.2)


class FastCollate:
    """uint8 images to one normalized batch, as in PrefetchLoader."""

    def __init__(self, mean=IMAGE_MEAN, std=IMAGE_STD):
        self.mean = torch.tensor([x * 255 for x in mean]).view(1, 3, 1, 1)
        self.std = torch.tensor([x * 255 for x in std]).view(1, 3, 1, 1)

    def __call__(self, batch):
        images = torch.stack([image for image, _ in batch])
        targets = torch.tensor([target for _, target in batch], dtype=torch.int64)
        return images.float().sub_(self.mean).div_(self.std), targets


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
    def __init__(self, img_size=16, num_classes=6, embed_dim=48, depth=3, num_heads=4):
        super().__init__()
        self.patch_embed = nn.Sequential(
            nn.Conv2d(3, embed_dim // 2, 3, 2, 1), nn.GELU(), nn.Conv2d(embed_dim // 2, embed_dim, 3, 2, 1)
        )
        self.pos_embed = nn.Parameter(torch.zeros(1, (img_size // 4) ** 2, embed_dim))
        self.blocks = nn.ModuleList([Block(embed_dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(embed_dim)
        self.head = nn.Linear(embed_dim, num_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = x + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))


class Mixup:
    def __init__(self, mixup_alpha=0.2, num_classes=6, seed=0):
        self.alpha, self.num_classes = mixup_alpha, num_classes
        self.rng = np.random.RandomState(seed)

    def __call__(self, x, target):
        lam = float(self.rng.beta(self.alpha, self.alpha))
        index = torch.randperm(len(x))
        x = x * lam + x[index] * (1 - lam)
        y = F.one_hot(target, self.num_classes).float()
        return x, y * lam + y[index] * (1 - lam)


def param_groups_weight_decay(model, weight_decay):
    decay = [p for p in model.parameters() if p.ndim > 1]
    no_decay = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": no_decay, "weight_decay": 0.0}, {"params": decay, "weight_decay": weight_decay}]


def to_uint8(image):
    return (image * 255).round().to(torch.uint8)


def setup():
    torch.manual_seed(42)
    cfg = dict(lr=2e-3, weight_decay=0.05, warmup_updates=30, epochs=60, clip_grad=1.0, batch_size=32)
    loader_train = DataLoader(Shapes(train=True, transform=to_uint8), cfg["batch_size"], shuffle=True,
                              collate_fn=FastCollate(), drop_last=True)
    loader_eval = DataLoader(Shapes(train=False, transform=to_uint8), 60, collate_fn=FastCollate())
    model = VisionTransformer()
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, cfg["weight_decay"]), lr=cfg["lr"])
    mixup_fn = Mixup()
    total = cfg["epochs"] * len(loader_train)

    def train_step(model, batch, optimizer, loss_fn):
        for group in optimizer.param_groups:
            group["updates"] = n = group.get("updates", 0) + 1
            cosine = 0.5 * (1 + math.cos(math.pi * min(n / total, 1.0)))
            group["lr"] = cfg["lr"] * min(1.0, n / cfg["warmup_updates"]) * max(cosine, 0.01)
        model.train()
        input, target = mixup_fn(*batch)
        loss = loss_fn(model(input), target)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), cfg["clip_grad"])
        optimizer.step()
        return loss

    return dict(model=model, train=loader_train, val=loader_eval, loss=nn.CrossEntropyLoss(), optimizer=optimizer,
                step=train_step)
