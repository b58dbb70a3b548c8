"""Unconditional DDPM on 16x16 digits with Accelerate and an EMA of the weights."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader

from toydata import Digits


@dataclass
class TrainingConfig:
    train_batch_size: int = 64
    num_epochs: int = 14
    learning_rate: float = 2e-3
    lr_warmup_steps: int = 20
    ema_decay: float = 0.97
    num_train_timesteps: int = 100
    weight_dtype: torch.dtype = torch.float32
    seed: int = 42


class ResBlock(nn.Module):
    def __init__(self, dim_in, dim_out, time_dim):
        super().__init__()
        self.block1 = nn.Sequential(nn.GroupNorm(8, dim_in), nn.SiLU(), nn.Conv2d(dim_in, dim_out, 3, padding=1))
        self.block2 = nn.Sequential(nn.GroupNorm(8, dim_out), nn.SiLU(), nn.Conv2d(dim_out, dim_out, 3, padding=1))
        self.time_proj = nn.Linear(time_dim, dim_out)
        self.shortcut = nn.Conv2d(dim_in, dim_out, 1) if dim_in != dim_out else nn.Identity()

    def forward(self, x, emb):
        h = self.block1(x) + self.time_proj(F.silu(emb))[:, :, None, None]
        return self.block2(h) + self.shortcut(x)


class UNet2D(nn.Module):
    def __init__(self, dim=32, time_dim=64):
        super().__init__()
        self.dim = dim
        self.time_mlp = nn.Sequential(nn.Linear(dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))
        self.conv_in = nn.Conv2d(1, dim, 3, padding=1)
        self.down = ResBlock(dim, dim, time_dim)
        self.downsample = nn.Conv2d(dim, 2 * dim, 3, stride=2, padding=1)
        self.mid1 = ResBlock(2 * dim, 2 * dim, time_dim)
        self.mid2 = ResBlock(2 * dim, 2 * dim, time_dim)
        self.upsample = nn.Conv2d(2 * dim, dim, 3, padding=1)
        self.up = ResBlock(2 * dim, dim, time_dim)
        self.norm_out = nn.GroupNorm(8, dim)
        self.conv_out = nn.Conv2d(dim, 1, 3, padding=1)

    def forward(self, sample, timesteps):
        half = self.dim // 2
        freqs = torch.exp(-math.log(1000) * torch.arange(half, device=sample.device) / half)
        angles = timesteps[:, None].float() * freqs[None]
        emb = self.time_mlp(torch.cat([angles.sin(), angles.cos()], dim=1).to(sample.dtype))
        x = self.conv_in(sample)
        skip = self.down(x, emb)
        x = self.mid2(self.mid1(self.downsample(skip), emb), emb)
        x = self.upsample(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.up(torch.cat([x, skip], dim=1), emb)
        return self.conv_out(F.silu(self.norm_out(x)))


class DDPMScheduler:
    def __init__(self, steps, device):
        self.steps = steps
        self.betas = torch.linspace(1e-3, 0.12, steps, device=device)
        self.alphas_cumprod = torch.cumprod(1 - self.betas, dim=0)

    def add_noise(self, clean, noise, t):
        a = self.alphas_cumprod[t].view(-1, 1, 1, 1)
        return a.sqrt() * clean + (1 - a).sqrt() * noise

    def step(self, eps, t, x):
        beta, a = self.betas[t], self.alphas_cumprod[t]
        mean = (x - beta / (1 - a).sqrt() * eps) / (1 - beta).sqrt()
        return mean + beta.sqrt() * torch.randn_like(x) if t > 0 else mean


def preprocess(image):
    return image.float() / 127.5 - 1.0


@torch.no_grad()
def update_ema(ema_model, model, decay):
    for target, source in zip(ema_model.parameters(), model.parameters()):
        target.lerp_(source, 1 - decay)


@torch.no_grad()
def evaluate(config, model, scheduler, dataloader, device):
    generator = torch.Generator().manual_seed(config.seed)
    total, count = 0.0, 0
    for clean, _ in dataloader:
        noise = torch.randn(clean.shape, generator=generator).to(device)
        t = torch.randint(0, scheduler.steps, (len(clean),), generator=generator).to(device)
        noisy = scheduler.add_noise(clean.to(device), noise, t)
        pred = model(noisy.to(config.weight_dtype), t).float()
        total += F.mse_loss(pred, noise, reduction="sum").item()
        count += noise.numel()
    return total / count


@torch.no_grad()
def sample(config, model, scheduler, n, device):
    x = torch.randn(n, 1, 16, 16, device=device)
    for i in reversed(range(scheduler.steps)):
        t = torch.full((n,), i, device=device, dtype=torch.long)
        x = scheduler.step(model(x.to(config.weight_dtype), t).float(), i, x)
    return x.clamp(-1, 1)


def main():
    config = TrainingConfig()
    set_seed(config.seed)
    accelerator = Accelerator()
    device = accelerator.device
    train_dataloader = DataLoader(Digits(train=True, transform=preprocess), config.train_batch_size, shuffle=True)
    eval_dataloader = DataLoader(Digits(train=False, transform=preprocess), 100)
    noise_scheduler = DDPMScheduler(config.num_train_timesteps, device)

    model = UNet2D().to(device, dtype=config.weight_dtype)
    ema_model = copy.deepcopy(model).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=1e-4)
    max_steps = config.num_epochs * len(train_dataloader)

    def cosine_with_warmup(step):
        if step < config.lr_warmup_steps:
            return (step + 1) / config.lr_warmup_steps
        progress = (step - config.lr_warmup_steps) / (max_steps - config.lr_warmup_steps)
        return 0.5 * (1 + math.cos(math.pi * progress))

    lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, cosine_with_warmup)
    model, optimizer, train_dataloader, lr_scheduler = accelerator.prepare(model, optimizer, train_dataloader, lr_scheduler)

    for epoch in range(config.num_epochs):
        model.train()
        running = 0.0
        for clean_images, _ in train_dataloader:
            noise = torch.randn_like(clean_images)
            timesteps = torch.randint(0, noise_scheduler.steps, (len(clean_images),), device=device)
            noisy_images = noise_scheduler.add_noise(clean_images, noise, timesteps)
            noise_pred = model(noisy_images.to(config.weight_dtype), timesteps)
            loss = F.mse_loss(noise_pred.float(), noise)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
            update_ema(ema_model, accelerator.unwrap_model(model), config.ema_decay)
            running += loss.item()
        accelerator.print(f"epoch {epoch}: train {running / len(train_dataloader):.4f}")
    val_loss = evaluate(config, ema_model, noise_scheduler, eval_dataloader, device)
    images = sample(config, ema_model, noise_scheduler, 32, device)
    accelerator.print(f"validation noise MSE {val_loss:.4f}; samples: mean {images.mean():.3f}, std {images.std():.3f}")


if __name__ == "__main__":
    main()
