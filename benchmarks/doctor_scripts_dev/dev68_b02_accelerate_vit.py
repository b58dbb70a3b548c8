"""Train a small Vision Transformer from scratch on synthetic shapes with HF Accelerate."""
import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.metrics import accuracy_score, recall_score
from sklearn.model_selection import train_test_split
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler
from transformers import get_cosine_schedule_with_warmup

IMAGE_SIZE = 20
CLASS_FREQ = {"disk": 0.36, "checker": 0.24, "square": 0.16, "cross": 0.12, "stripes": 0.07, "ring": 0.05}


def make_shapes(n, size, seed):
    rng = np.random.default_rng(seed)
    names = rng.choice(list(CLASS_FREQ), size=n, p=list(CLASS_FREQ.values()))
    yy, xx = np.mgrid[:size, :size].astype(np.float32)
    images = np.empty((n, size, size, 3), dtype=np.uint8)
    for i, name in enumerate(names):
        cy, cx = rng.uniform(size * 0.4, size * 0.6, 2)
        r, w, phase = rng.uniform(size * 0.22, size * 0.38), rng.integers(2, 4), rng.integers(0, 4)
        dy, dx = np.abs(yy - cy), np.abs(xx - cx)
        dist = np.sqrt(dy ** 2 + dx ** 2)
        mask = {
            "disk": dist < r,
            "ring": (dist < r) & (dist > 0.55 * r),
            "square": np.maximum(dy, dx) < 0.85 * r,
            "cross": (np.minimum(dy, dx) < 0.3 * r) & (np.maximum(dy, dx) < r),
            "checker": ((yy + phase) // w + (xx + phase) // w) % 2 == 0,
            "stripes": ((yy if rng.random() < 0.5 else xx) + phase) // w % 2 == 0,
        }[name]
        bg, fg = rng.uniform(0.0, 0.4, 3), rng.uniform(0.5, 1.0, 3)
        img = bg + mask[..., None] * (fg - bg) + rng.normal(0, 0.08, (size, size, 3))
        images[i] = (np.clip(img, 0, 1) * 255).astype(np.uint8)
    return images, names


def build_dataset(images, labels, mean, std):
    pixel_values = (images / 255.0 - mean) / std
    names = sorted(CLASS_FREQ)
    targets = [names.index(label) for label in labels]
    return TensorDataset(torch.tensor(pixel_values, dtype=torch.float32).permute(0, 3, 1, 2), torch.tensor(targets))


def random_flip(x):
    flip = torch.rand(x.size(0), 1, 1, 1) < 0.5
    return torch.where(flip, x.flip(-1), x)


class Attention(nn.Module):
    def __init__(self, dim, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = nn.Linear(dim, dim * 3)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        q, k, v = self.qkv(x).reshape(B, N, 3, self.num_heads, C // self.num_heads).permute(2, 0, 3, 1, 4)
        attn = ((q @ k.transpose(-2, -1)) * self.scale).softmax(dim=-1)
        x = (attn @ v).transpose(1, 2).reshape(B, N, C)
        return self.proj(x)


class Block(nn.Module):
    def __init__(self, dim, num_heads, mlp_ratio=2):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, dim * mlp_ratio), nn.GELU(), nn.Linear(dim * mlp_ratio, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, image_size, patch_size, num_classes, dim=48, depth=3, num_heads=4):
        super().__init__()
        num_patches = (image_size // patch_size) ** 2
        self.patch_embed = nn.Conv2d(3, dim, patch_size, stride=patch_size)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, num_patches + 1, dim) * 0.02)
        self.blocks = nn.ModuleList([Block(dim, num_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)
        self.apply(self._init_weights)

    def _init_weights(self, m):
        if isinstance(m, nn.Linear):
            nn.init.trunc_normal_(m.weight, std=0.05)
            nn.init.zeros_(m.bias)

    def forward(self, pixel_values):
        x = self.patch_embed(pixel_values).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(x.size(0), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class EMAModel:
    def __init__(self, parameters, decay):
        self.decay = decay
        self.shadow = [p.detach().clone() for p in parameters]

    @torch.no_grad()
    def step(self, parameters):
        for s, p in zip(self.shadow, parameters):
            s.mul_(self.decay).add_(p, alpha=1 - self.decay)

    @torch.no_grad()
    def copy_to(self, parameters):
        for s, p in zip(self.shadow, parameters):
            p.copy_(s)


def get_param_groups(model, weight_decay):
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim <= 1 or name in ("cls_token", "pos_embed") else decay).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


@torch.no_grad()
def evaluate(model, loader, accelerator):
    model.eval()
    all_preds, all_refs = [], []
    for pixel_values, labels in loader:
        preds, refs = accelerator.gather_for_metrics((model(pixel_values).argmax(dim=-1), labels))
        all_preds += preds.tolist()
        all_refs += refs.tolist()
    return accuracy_score(all_refs, all_preds), recall_score(all_refs, all_preds, average="macro")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_train_epochs", type=int, default=12)
    parser.add_argument("--per_device_batch_size", type=int, default=32)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=args.gradient_accumulation_steps)
    set_seed(args.seed)
    images, labels = make_shapes(3000, IMAGE_SIZE, args.seed)
    train_x, val_x, train_y, val_y = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=0)
    mean, std = train_x.mean(axis=(0, 1, 2)) / 255.0, train_x.std(axis=(0, 1, 2)) / 255.0
    train_set = build_dataset(train_x, train_y, mean, std)
    val_set = build_dataset(val_x, val_y, mean, std)

    targets = train_set.tensors[1]
    sample_weights = 1.0 / torch.bincount(targets)[targets]
    sampler = WeightedRandomSampler(sample_weights, num_samples=len(train_set), replacement=True)
    train_loader = DataLoader(train_set, batch_size=args.per_device_batch_size, sampler=sampler)
    val_loader = DataLoader(val_set, batch_size=200, shuffle=False)

    model = ViT(IMAGE_SIZE, patch_size=4, num_classes=len(CLASS_FREQ))
    optimizer = torch.optim.AdamW(get_param_groups(model, 0.05), lr=args.learning_rate)
    max_train_steps = args.num_train_epochs * math.ceil(len(train_loader) / args.gradient_accumulation_steps)
    lr_scheduler = get_cosine_schedule_with_warmup(optimizer, int(0.1 * max_train_steps), max_train_steps)
    model, optimizer, train_loader, val_loader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_loader, val_loader, lr_scheduler)
    ema = EMAModel(model.parameters(), decay=0.98)
    ema_model = copy.deepcopy(accelerator.unwrap_model(model))

    for epoch in range(args.num_train_epochs):
        model.train()
        total_loss = 0.0
        for pixel_values, labels in train_loader:
            with accelerator.accumulate(model):
                loss = F.cross_entropy(model(random_flip(pixel_values)), labels)
                total_loss += loss.detach().item()
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            if accelerator.sync_gradients:
                ema.step(model.parameters())

        ema.copy_to(ema_model.parameters())
        acc, macro_recall = evaluate(ema_model, val_loader, accelerator)
        accelerator.print(f"epoch {epoch}: train_loss {total_loss / len(train_loader):.4f} "
                          f"val_accuracy {acc:.4f} val_macro_recall {macro_recall:.4f}")


if __name__ == "__main__":
    main()
