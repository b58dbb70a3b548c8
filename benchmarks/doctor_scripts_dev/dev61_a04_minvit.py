"""minViT: trains a tiny vision transformer on 16x16 digits; no DataLoader, no Trainer, just tensors and a loop."""
import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
eval_interval = 50
eval_iters = 6
log_interval = 10
# data
gradient_accumulation_steps = 2
batch_size = 32  # micro-batch size
# adamw optimizer
learning_rate = 2e-3
max_iters = 250
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.99
grad_clip = 1.0
# learning rate decay settings
warmup_iters = 20
lr_decay_iters = max_iters
min_lr = 2e-4
# system
device = "cpu"
dtype = "float32"  # 'float32' or 'bfloat16'
# -----------------------------------------------------------------------------


@dataclass
class ViTConfig:
    tokens: int = 16
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 48
    n_class: int = 10


class SelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.n_head = config.n_head
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)  # no mask, every patch sees every patch
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = SelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(), nn.Linear(4 * config.n_embd, config.n_embd))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        x = x + self.mlp(self.ln_2(x))
        return x


class ViT(nn.Module):
    def __init__(self, config):
        super().__init__()
        # early convolutions help transformers see better
        self.stem = nn.Sequential(
            nn.Conv2d(1, 24, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(24, config.n_embd, 3, stride=2, padding=1)
        )
        self.wpe = nn.Parameter(0.02 * torch.randn(1, config.tokens, config.n_embd))
        self.h = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, config.n_class)

    def forward(self, idx, targets=None):
        x = self.stem(idx).flatten(2).transpose(1, 2)  # (B, T, C)
        x = x + self.wpe
        for block in self.h:
            x = block(x)
        logits = self.head(self.ln_f(x).mean(dim=1))
        loss = None if targets is None else F.cross_entropy(logits, targets)
        return logits, loss

    def configure_optimizers(self):
        decay = [p for p in self.parameters() if p.dim() >= 2]
        nodecay = [p for p in self.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2))


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = min(1.0, (it - warmup_iters) / (lr_decay_iters - warmup_iters))
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)


def main():
    torch.manual_seed(1337)
    ctx = nullcontext() if dtype == "float32" else torch.autocast(device, dtype=getattr(torch, dtype))
    splits = {}
    for split, count, seed in (("train", 1600, 0), ("val", 300, 1)):
        images, labels = draw_digits(count, seed=seed, shift=1)
        splits[split] = ((images.float() / 255 - 0.17) / 0.32, labels)

    def get_batch(split):
        X, Y = splits[split]
        ix = torch.randint(len(X), (batch_size,))
        x, y = X[ix], Y[ix]
        return x.to(device), y.to(device)
    model = ViT(ViTConfig()).to(device)
    optimizer = model.configure_optimizers()

    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ("train", "val"):
            losses, hits = torch.zeros(eval_iters), torch.zeros(eval_iters)
            for k in range(eval_iters):
                X, Y = get_batch(split)
                with ctx:
                    logits, loss = model(X, Y)
                losses[k] = loss.item()
                hits[k] = (logits.argmax(-1) == Y).float().mean()
            out[split] = (losses.mean().item(), hits.mean().item())
        model.train()
        return out
    for iter_num in range(max_iters + 1):
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        if iter_num % eval_interval == 0:
            (tl, ta), (vl, va) = estimate_loss().values()
            print(f"step {iter_num}: train loss {tl:.4f} acc {ta:.3f}, val loss {vl:.4f} acc {va:.3f}")
        for micro_step in range(gradient_accumulation_steps):
            X, Y = get_batch("train")
            with ctx:
                logits, loss = model(X, Y)
                loss = loss / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if iter_num % log_interval == 0:
            print(f"iter {iter_num}: loss {loss.item() * gradient_accumulation_steps:.4f}")


if __name__ == "__main__":
    main()
