"""nanoDiffusion: a tiny diffusion transformer on 16x16 digits, trained in one file."""
import math
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
from torch.nn import functional as F

from toydata import draw_digits

# default config values
batch_size = 64
gradient_accumulation_steps = 2
max_iters = 400
eval_interval = 100
eval_iters = 4
learning_rate = 2e-3
min_lr = 2e-4
warmup_iters = 20
lr_decay_iters = 400
weight_decay = 0.05
beta1, beta2 = 0.9, 0.98
grad_clip = 1.0
num_timesteps = 200
device = "cpu"
ctx = torch.autocast(device_type=device, dtype=torch.bfloat16)


@dataclass
class DiTConfig:
    image_size: int = 16
    patch_size: int = 4
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 64
    dropout: float = 0.0


class SelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.n_head = config.n_head

    def forward(self, x):
        B, T, C = x.size()
        q, k, v = self.c_attn(x).split(C, dim=2)
        q, k, v = (z.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for z in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = SelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(),
                                 nn.Linear(4 * config.n_embd, config.n_embd), nn.Dropout(config.dropout))

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class DiT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        pixels = config.patch_size**2
        self.wpe = nn.Parameter(0.02 * torch.randn(1, (config.image_size // config.patch_size) ** 2, config.n_embd))
        self.patch = nn.Linear(pixels, config.n_embd)
        self.time = nn.Sequential(nn.Linear(32, config.n_embd), nn.SiLU(), nn.Linear(config.n_embd, config.n_embd))
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = nn.Linear(config.n_embd, pixels)
        self.apply(self._init_weights)

    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.05)
            torch.nn.init.zeros_(module.bias)

    def forward(self, x, t):
        B, _, H, W = x.shape
        p = self.config.patch_size
        tokens = x.view(B, H // p, p, W // p, p).permute(0, 1, 3, 2, 4).reshape(B, -1, p * p)
        freqs = torch.exp(-math.log(1000.0) * torch.arange(16, device=x.device) / 16)
        angles = t.float()[:, None] * freqs
        temb = self.time(torch.cat([angles.sin(), angles.cos()], dim=1))
        h = self.patch(tokens) + self.wpe + temb[:, None]
        for block in self.blocks:
            h = block(h)
        out = self.head(self.ln_f(h))
        return out.view(B, H // p, W // p, p, p).permute(0, 1, 3, 2, 4).reshape(B, 1, H, W)

    def configure_optimizers(self, weight_decay, learning_rate, betas):
        params = [p for p in self.parameters() if p.requires_grad]
        groups = [{"params": [p for p in params if p.dim() >= 2], "weight_decay": weight_decay},
                  {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas)


# poor man's data loader
splits = {}
for split, count, seed in (("train", 1600, 0), ("val", 320, 1)):
    images, _ = draw_digits(count, seed=seed, noise=0.03)
    splits[split] = images.float() / 127.5 - 1.0

betas = torch.linspace(1e-4, 0.05, num_timesteps)
alpha_bar = torch.cumprod(1.0 - betas, dim=0)


def get_batch(split):
    data = splits[split]
    ix = torch.randint(len(data), (batch_size,))
    t = torch.randint(num_timesteps, (batch_size,))
    return data[ix].to(device), t.to(device)


def q_sample(x0, t, noise):
    ab = alpha_bar[t].view(-1, 1, 1, 1)
    return ab.sqrt() * x0 + (1.0 - ab).sqrt() * noise


def diffusion_loss(model, x0, t):
    noise = torch.randn_like(x0)
    xt = q_sample(x0, t, noise)
    with ctx:
        pred = model(xt, t)
    return F.mse_loss(pred.float(), noise)


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / (warmup_iters + 1)
    if it > lr_decay_iters:
        return min_lr
    decay_ratio = (it - warmup_iters) / (lr_decay_iters - warmup_iters)
    return min_lr + 0.5 * (1.0 + math.cos(math.pi * decay_ratio)) * (learning_rate - min_lr)


@torch.no_grad()
def estimate_loss(model):
    out = {}
    model.eval()
    for split in ("train", "val"):
        losses = torch.zeros(eval_iters)
        for k in range(eval_iters):
            losses[k] = diffusion_loss(model, *get_batch(split)).item()
        out[split] = losses.mean().item()
    model.train()
    return out


@torch.no_grad()
def generate(model, n):
    model.eval()
    x = torch.randn(n, 1, 16, 16, device=device)
    for i in reversed(range(num_timesteps)):
        eps = model(x, torch.full((n,), i, device=device))
        mean = (x - betas[i] / (1 - alpha_bar[i]).sqrt() * eps) / (1 - betas[i]).sqrt()
        x = mean + betas[i].sqrt() * torch.randn_like(x) if i > 0 else mean
    return x


def main():
    torch.manual_seed(1337)
    model = DiT(DiTConfig()).to(device)
    print("number of parameters: %.1fk" % (sum(p.numel() for p in model.parameters()) / 1e3))
    optimizer = model.configure_optimizers(weight_decay, learning_rate, (beta1, beta2))
    t0 = time.time()
    for it in range(max_iters + 1):
        for group in optimizer.param_groups:
            group["lr"] = get_lr(it)
        if it % eval_interval == 0:
            losses = estimate_loss(model)
            print(f"step {it}: train loss {losses['train']:.4f}, val loss {losses['val']:.4f} ({time.time() - t0:.1f}s)")
        for micro_step in range(gradient_accumulation_steps):
            x0, t = get_batch("train")
            loss = diffusion_loss(model, x0, t) / gradient_accumulation_steps
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    pixels = generate(model, 2)
    for row in (pixels[0, 0] > 0).tolist():
        print("".join("#" if on else "." for on in row))


if __name__ == "__main__":
    main()
