"""
nanoDDPM: the least code that trains a diffusion model on tiny digits.
One file, no DataLoader, plain globals. Run as $ python nanoddpm.py
"""

import math
import time
from contextlib import nullcontext

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

num_images = 1500
batch_size = 32
gradient_accumulation_steps = 2  # used to simulate larger batch sizes
n_embd, num_timesteps = 24, 100
learning_rate = 2e-3
max_iters = 300
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.95
grad_clip = 1.0
warmup_iters, lr_decay_iters, min_lr = 20, 300, 1e-4
eval_interval, eval_iters, log_interval = 100, 8, 50
dtype = "bfloat16"  # 'float32' or 'bfloat16'
seed = 1337
ptdtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
ctx = nullcontext() if dtype == "float32" else torch.amp.autocast(device_type="cpu", dtype=ptdtype)

class Block(nn.Module):
    """residual conv block that is told the time"""
    def __init__(self, n_in, n_out):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.time = nn.Linear(n_embd, n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, padding=1)
        self.skip = nn.Conv2d(n_in, n_out, 1)
    def forward(self, x, emb):
        h = F.silu(self.conv1(x) + self.time(emb)[:, :, None, None])
        return F.silu(self.conv2(h)) + self.skip(x)

class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Sequential(nn.Linear(n_embd, n_embd), nn.SiLU(), nn.Linear(n_embd, n_embd), nn.SiLU())
        self.inp = nn.Conv2d(1, n_embd, 3, padding=1)
        self.down = Block(n_embd, 2 * n_embd)
        self.mid = Block(2 * n_embd, 2 * n_embd)
        self.up = Block(3 * n_embd, n_embd)
        self.out = nn.Conv2d(n_embd, 1, 3, padding=1)
    def forward(self, x, t):
        half = n_embd // 2
        freqs = torch.exp(-math.log(1000.0) * torch.arange(half, device=x.device) / half)
        angles = t.float()[:, None] * freqs[None]
        emb = self.wte(torch.cat([angles.sin(), angles.cos()], dim=1))
        h0 = self.inp(x)
        h = self.down(F.avg_pool2d(h0, 2), emb)
        h = self.mid(h, emb)
        h = F.interpolate(h, scale_factor=2.0, mode="nearest")
        h = self.up(torch.cat([h, h0], dim=1), emb)
        return self.out(h).float()

# the noise schedule: x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps
betas = torch.linspace(1e-3, 0.08, num_timesteps)
alphas = 1.0 - betas
abar = torch.cumprod(alphas, dim=0)

def add_noise(x0, t, eps):
    a = abar[t].view(-1, 1, 1, 1)
    return a.sqrt() * x0 + (1.0 - a).sqrt() * eps

def load_data():
    images, _ = draw_digits(num_images, size=16, seed=seed)
    data = images.float() / 127.5 - 1.0
    n = int(0.9 * len(data))
    return {"train": data[:n], "val": data[n:]}

def get_batch(data, split):
    ix = torch.randint(len(data[split]), (batch_size,))
    x0 = data[split][ix]
    t = torch.randint(num_timesteps, (batch_size,))
    eps = torch.randn_like(x0)
    return x0, t, eps

def compute_loss(model, x0, t, eps):
    xt = add_noise(x0, t, eps)
    pred = model(xt, t)
    return F.mse_loss(pred, eps)

@torch.no_grad()
def estimate_loss(model, data):
    out = {}
    model.eval()
    for split in ["train", "val"]:
        losses = torch.zeros(eval_iters)
        for k in range(eval_iters):
            x0, t, eps = get_batch(data, split)
            with ctx:
                losses[k] = compute_loss(model, x0, t, eps)
        out[split] = losses.mean().item()
    model.train()
    return out

@torch.no_grad()
def sample(model, n):
    """ancestral sampling, from pure noise down to an image"""
    model.eval()
    x = torch.randn(n, 1, 16, 16)
    for i in reversed(range(num_timesteps)):
        t = torch.full((n,), i)
        with ctx:
            eps = model(x, t)
        x = (x - betas[i] / (1.0 - abar[i]).sqrt() * eps) / alphas[i].sqrt()
        if i > 0:
            x = x + betas[i].sqrt() * torch.randn_like(x)
    model.train()
    return x.clamp(-1, 1)

def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    coeff = 0.5 * (1.0 + math.cos(math.pi * min(decay_ratio, 1.0)))
    return min_lr + coeff * (learning_rate - min_lr)

def main():
    torch.manual_seed(seed)
    data = load_data()
    model = UNet()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(beta1, beta2), weight_decay=weight_decay)
    best_val_loss, checkpoint, t0 = 1e9, None, time.time()
    for iter_num in range(max_iters + 1):
        if iter_num % eval_interval == 0:
            losses = estimate_loss(model, data)
            print(f"step {iter_num}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
            if losses["val"] < best_val_loss:
                best_val_loss = losses["val"]
                checkpoint = {k: v.clone() for k, v in model.state_dict().items()}
        lr = get_lr(iter_num)
        for param_group in optimizer.param_groups:
            param_group["lr"] = lr
        for micro_step in range(gradient_accumulation_steps):
            x0, t, eps = get_batch(data, "train")
            with ctx:
                loss = compute_loss(model, x0, t, eps) / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if iter_num % log_interval == 0:
            lossf = loss.item() * gradient_accumulation_steps
            print(f"iter {iter_num}: loss {lossf:.4f}, time {time.time() - t0:.1f}s")
    model.load_state_dict(checkpoint)
    images = sample(model, 8)
    print(f"best val loss {best_val_loss:.4f}, samples: mean {images.mean():.3f} std {images.std():.3f}")

if __name__ == "__main__":
    main()
