"""A small vision transformer on digits: mixup, bf16 autocast, gradient checkpointing, warmup and cosine by LambdaLR, no decay
for biases, norms and embeddings."""

import argparse
import math
from contextlib import nullcontext

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from toydata import draw_digits


class Block(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 3 * dim), nn.GELU(), nn.Linear(3 * dim, dim))

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, d)
        x = x + self.proj(mixed)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, size=16, patch=4, dim=64, depth=3, heads=4, classes=10, checkpointing=True):
        super().__init__()
        self.patches = nn.Conv2d(1, dim, patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)
        self.checkpointing = checkpointing

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointing and self.training else block(x)
        return self.head(self.norm(x).mean(dim=1))


def mixup(images, labels, alpha, classes=10):
    share = torch.distributions.Beta(alpha, alpha).sample()
    other = torch.randperm(len(images))
    targets = F.one_hot(labels, classes).float()
    return torch.lerp(images[other], images, share), torch.lerp(targets[other], targets, share)


def parameter_groups(model, weight_decay):
    decay, plain = [], []
    for name, parameter in model.named_parameters():
        (plain if parameter.ndim < 2 or name == "position" else decay).append(parameter)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def warmup_cosine(warmup, total):
    def factor(step):
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))

    return factor


@torch.no_grad()
def evaluate(model, images, labels):
    model.eval()
    predictions = torch.cat([model(part).argmax(-1) for part in images.split(250)])
    return (predictions == labels).float().mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=80)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.05)
    parser.add_argument("--mixup", type=float, default=0.2)
    parser.add_argument("--no-amp", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(4)

    images, labels = draw_digits(4000, seed=81, shift=1)
    val_images, val_labels = draw_digits(500, seed=82, shift=1)
    images, val_images = images.float() / 255, val_images.float() / 255
    mean, std = images.mean(), images.std()
    images, val_images = (images - mean) / std, (val_images - mean) / std

    model = ViT()
    optimizer = torch.optim.AdamW(parameter_groups(model, args.weight_decay), lr=args.lr, betas=(0.9, 0.98))
    total = args.epochs * math.ceil(len(images) / args.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(total // 20, total))
    for epoch in range(args.epochs):
        model.train()
        loss_sum = torch.zeros(())
        for chosen in torch.randperm(len(images)).split(args.batch_size):
            x, y = mixup(images[chosen], labels[chosen], args.mixup)
            with nullcontext() if args.no_amp else torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            loss_sum += loss.detach() * len(chosen)
        accuracy = evaluate(model, val_images, val_labels)
        print(f"epoch {epoch:2d}  mixup loss {loss_sum.item() / len(images):.4f}  val accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
