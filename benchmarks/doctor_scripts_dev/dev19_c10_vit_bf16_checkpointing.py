"""A small ViT with bfloat16 autocast, gradient checkpointing and accumulated gradients, on the CPU."""

import argparse
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


def get_args():
    p = argparse.ArgumentParser("tiny ViT")
    p.add_argument("--batch_size", default=32, type=int, help="per backward pass")
    p.add_argument("--accum_iter", default=2, type=int, help="backward passes for one step")
    p.add_argument("--epochs", default=28, type=int)
    p.add_argument("--blr", default=2e-3, type=float)
    p.add_argument("--min_lr", default=1e-5, type=float)
    p.add_argument("--warmup_epochs", default=2, type=int)
    p.add_argument("--weight_decay", default=0.05, type=float)
    p.add_argument("--clip_grad", default=1.0, type=float)
    p.add_argument("--no_checkpointing", action="store_true")
    return p.parse_args()


class ShiftedDigits(Dataset):
    def __init__(self, count, seed, train):
        images, self.labels = draw_digits(count, seed=seed, shift=1)
        self.images = (images.float() / 255 - 0.24) / 0.33
        self.train = train

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        image = self.images[i]
        if self.train:
            dy, dx = torch.randint(-1, 2, (2,)).tolist()
            image = torch.roll(image, (dy, dx), (1, 2))  # the rim is empty
        return image, self.labels[i]


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(b, n, c))


class Block(nn.Module):
    def __init__(self, dim, heads, mlp_ratio=2, layer_scale=0.3):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))
        self.gamma1, self.gamma2 = nn.Parameter(layer_scale * torch.ones(dim)), nn.Parameter(layer_scale * torch.ones(dim))

    def forward(self, x):
        x = x + self.gamma1 * self.attn(self.norm1(x))
        return x + self.gamma2 * self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, image=16, patch=4, dim=48, depth=3, heads=4, classes=10, use_checkpoint=True):
        super().__init__()
        self.patch_embed = nn.Conv2d(1, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, (image // patch) ** 2 + 1, dim))
        self.blocks = nn.ModuleList([Block(dim, heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)
        self.use_checkpoint = use_checkpoint
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x):
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        for block in self.blocks:
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return self.head(self.norm(x)[:, 0])


def adjust_learning_rate(optimizer, epoch, args):
    """Half-cycle cosine after a warmup; epoch is a float and the rate is set anew at each step."""
    if epoch < args.warmup_epochs:
        lr = args.blr * (epoch + 0.1) / args.warmup_epochs
    else:
        done = (epoch - args.warmup_epochs) / (args.epochs - args.warmup_epochs)
        lr = args.min_lr + (args.blr - args.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def train_one_epoch(model, loader, optimizer, epoch, args):
    model.train()
    optimizer.zero_grad()
    total, seen = 0.0, 0
    for i, (samples, targets) in enumerate(loader):
        if i % args.accum_iter == 0:
            lr = adjust_learning_rate(optimizer, epoch + i / len(loader), args)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(samples)
            loss = F.cross_entropy(outputs, targets)
        total, seen = total + loss.item() * len(targets), seen + len(targets)
        (loss / args.accum_iter).backward()
        if (i + 1) % args.accum_iter == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
            optimizer.step()
            optimizer.zero_grad()
    return total / seen, lr


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    for samples, targets in loader:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = model(samples)
        correct += (outputs.argmax(-1) == targets).sum().item()
        total += len(targets)
    return correct / total


if __name__ == "__main__":
    args = get_args()
    torch.manual_seed(0)
    # 1920 images are 60 batches: a whole number of steps
    train_loader = DataLoader(ShiftedDigits(1920, 40, True), args.batch_size, shuffle=True, drop_last=True)
    val_loader = DataLoader(ShiftedDigits(400, 41, False), 200)
    model = ViT(use_checkpoint=not args.no_checkpointing)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": args.weight_decay},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=args.blr, betas=(0.9, 0.95))
    for epoch in range(args.epochs):
        loss, lr = train_one_epoch(model, train_loader, optimizer, epoch, args)
        print(f"Epoch {epoch:2d}  lr {lr:.5f}  train loss {loss:.4f}  val acc {evaluate(model, val_loader):.4f}")
