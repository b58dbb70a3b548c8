"""A small vision transformer: label smoothing, AdamW with two groups, linear warmup and a cosine per step."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


@dataclass
class Config:
    image_size: int = 16
    patch_size: int = 4
    dim: int = 64
    depth: int = 3
    heads: int = 4
    dropout: float = 0.1
    num_classes: int = 10
    batch_size: int = 64
    epochs: int = 20
    lr: float = 1e-3
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    smoothing: float = 0.1
    clip: float = 1.0
    seed: int = 0


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2])
        return self.proj(out.transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    def __init__(self, dim, heads, dropout):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim), nn.Dropout(dropout))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        count = (config.image_size // config.patch_size) ** 2
        self.patch_embed = nn.Conv2d(1, config.dim, config.patch_size, stride=config.patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, count + 1, config.dim))
        self.blocks = nn.Sequential(*[Block(config.dim, config.heads, config.dropout) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.dim)
        self.head = nn.Linear(config.dim, config.num_classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.zeros_(self.head.weight)  # as in the original: every class equally likely at first
        nn.init.zeros_(self.head.bias)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.size(0), -1, -1), x], dim=1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def parameter_groups(model, weight_decay):
    decay, no_decay = [], []
    for name, parameter in model.named_parameters():
        if parameter.ndim <= 1 or name in ("cls_token", "pos_embed"):
            no_decay.append(parameter)
        else:
            decay.append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


class Trainer:
    def __init__(self, config, model, train_loader, val_loader):
        self.config, self.model = config, model
        self.train_loader, self.val_loader = train_loader, val_loader
        self.criterion = nn.CrossEntropyLoss(label_smoothing=config.smoothing)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, config.weight_decay), lr=config.lr, betas=(0.9, 0.99)
        )
        total = config.epochs * len(train_loader)
        warmup = int(config.warmup_share * total)

        def factor(step):
            if step < warmup:
                return (step + 1) / warmup
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, factor)

    def train_epoch(self):
        self.model.train()
        losses = torch.zeros(len(self.train_loader))
        for i, (x, y) in enumerate(self.train_loader):
            loss = self.criterion(self.model(x), y)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.scheduler.step()
            losses[i] = loss.detach()
        return losses.mean().item()

    @torch.inference_mode()
    def validate(self):
        self.model.eval()
        loss = correct = count = 0
        for x, y in self.val_loader:
            logits = self.model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            correct += (logits.argmax(-1) == y).sum().item()
            count += y.size(0)
        return loss / count, correct / count

    def fit(self):
        for epoch in range(1, self.config.epochs + 1):
            train_loss = self.train_epoch()
            val_loss, val_acc = self.validate()
            rate = self.scheduler.get_last_lr()[0]
            print(f"[{epoch:02d}] lr {rate:.2e} smoothed loss {train_loss:.3f} val loss {val_loss:.3f} acc {val_acc:.3f}")


def make_loaders(config):
    images, labels = draw_digits(4600, seed=7)
    images = images.float().div(255)
    train_x, val_x = images[:4000], images[4000:]
    mean, std = train_x.mean(), train_x.std()
    train = TensorDataset((train_x - mean) / std, labels[:4000])
    val = TensorDataset((val_x - mean) / std, labels[4000:])
    return DataLoader(train, config.batch_size, shuffle=True, drop_last=True), DataLoader(val, 200)


if __name__ == "__main__":
    config = Config()
    torch.manual_seed(config.seed)
    train_loader, val_loader = make_loaders(config)
    Trainer(config, VisionTransformer(config), train_loader, val_loader).fit()
