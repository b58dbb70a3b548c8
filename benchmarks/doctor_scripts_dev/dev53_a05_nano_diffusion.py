"""
nanoDDPM: the smallest diffusion model that is still fun. Trains on 16x16 digits in a few seconds on a laptop.
$ python a05_nano_diffusion.py
"""

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F

from toydata import draw_digits

# -----------------------------------------------------------------------------
# config
eval_interval = 40
eval_iters = 4
log_interval = 20
batch_size = 24
gradient_accumulation_steps = 2
max_iters = 240
learning_rate = 2e-3
min_lr = 5e-5
warmup_iters = 20
lr_decay_iters = max_iters
weight_decay = 1e-2
beta1, beta2 = 0.9, 0.95
grad_clip = 1.0
dtype = "bfloat16"
seed = 1337
# -----------------------------------------------------------------------------

ptdtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
ctx = nullcontext() if dtype == "float32" else torch.autocast(device_type="cpu", dtype=ptdtype)

@dataclass
class DDPMConfig:
    timesteps: int = 100
    channels: int = 16
    time_dim: int = 32

class Block(nn.Module):
    def __init__(self, cin, cout, time_dim):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm = nn.GroupNorm(4, cout)
        self.time = nn.Linear(time_dim, cout)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
    def forward(self, x, temb):
        h = self.norm(self.conv1(x).float()) + self.time(temb)[:, :, None, None]
        return F.silu(self.conv2(F.silu(h)))

class DDPM(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        c, d = config.channels, config.time_dim
        self.time_mlp = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.down = Block(1, c, d)
        self.mid = Block(c, 2 * c, d)
        self.up = Block(3 * c, c, d)
        self.out = nn.Conv2d(c, 1, 3, padding=1)
        s = torch.arange(config.timesteps + 1) / config.timesteps
        abar = torch.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
        self.register_buffer("abar", (abar / abar[0])[1:].clamp(min=1e-3))
        print(f"number of parameters: {sum(p.numel() for p in self.parameters()) / 1e3:.1f}K")
    def embed_time(self, t):
        half = self.config.time_dim // 2
        freqs = torch.exp(-math.log(1000.0) * torch.arange(half) / half)
        args = t[:, None].float() * freqs[None]
        return torch.cat([args.sin(), args.cos()], dim=1)
    def forward(self, x, t):
        temb = self.time_mlp(self.embed_time(t))
        h1 = self.down(x, temb)
        h2 = self.mid(F.avg_pool2d(h1, 2), temb)
        h = torch.cat([h1, F.interpolate(h2, scale_factor=2.0, mode="nearest")], dim=1)
        return self.out(self.up(h, temb))
    def q_sample(self, x0, t, noise=None):
        if noise is None:
            noise = torch.randn_like(x0)
        a = self.abar[t][:, None, None, None]
        return a.sqrt() * x0 + (1 - a).sqrt() * noise
    def loss(self, x0):
        t = torch.randint(0, self.config.timesteps, (x0.size(0),))
        noise = torch.randn_like(x0)
        x_t = self.q_sample(x0, t, noise)
        pred = self(x_t, t)
        return F.mse_loss(pred.float(), noise.float())

def load(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.05)
    return images.float() / 127.5 - 1.0

def main():
    torch.manual_seed(seed)
    train_data, val_data = load(1200, seed=0), load(300, seed=1)
    def get_batch(split):
        data = train_data if split == "train" else val_data
        ix = torch.randint(len(data), (batch_size,))
        return data[ix]

    model = DDPM(DDPMConfig())

    decay = [p for p in model.parameters() if p.dim() >= 2]
    nodecay = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": weight_decay}, {"params": nodecay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2))
    @torch.no_grad()
    def estimate_loss():
        out = {}
        model.eval()
        for split in ["train", "val"]:
            losses = torch.zeros(eval_iters)
            for k in range(eval_iters):
                with ctx:
                    losses[k] = model.loss(get_batch(split))
            out[split] = losses.mean().item()
        model.train()
        return out
    def get_lr(it):
        if it < warmup_iters:
            return learning_rate * (it + 1) / (warmup_iters + 1)
        if it > lr_decay_iters:
            return min_lr
        ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
        return min_lr + 0.5 * (1.0 + math.cos(math.pi * ratio)) * (learning_rate - min_lr)

    best_val_loss, checkpoint = 1e9, None
    t0 = time.time()
    for it in range(max_iters + 1):
        lr = get_lr(it)
        for group in optimizer.param_groups:
            group["lr"] = lr

        if it % eval_interval == 0:
            losses = estimate_loss()
            print(f"step {it}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f}")
            if losses["val"] < best_val_loss:
                best_val_loss = losses["val"]
                checkpoint = {k: v.clone() for k, v in model.state_dict().items()}

        optimizer.zero_grad(set_to_none=True)
        for micro_step in range(gradient_accumulation_steps):
            with ctx:
                loss = model.loss(get_batch("train")) / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()

        if it % log_interval == 0:
            lossf = loss.item() * gradient_accumulation_steps
            print(f"iter {it}: loss {lossf:.4f}, lr {lr:.2e}, time {time.time() - t0:.1f}s")
    model.load_state_dict(checkpoint)
    print(f"best val loss {best_val_loss:.4f}")

if __name__ == "__main__":
    main()
