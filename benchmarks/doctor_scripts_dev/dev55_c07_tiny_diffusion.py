"""Denoising diffusion of points in the plane, after tiny-diffusion."""
import argparse
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset


def ring_of_blobs(n, seed, modes=8):
    rng = np.random.default_rng(seed)
    angle = 2 * math.pi * rng.integers(0, modes, n) / modes
    points = 1.35 * np.stack([np.cos(angle), np.sin(angle)], 1) + rng.normal(0, 0.06, (n, 2))
    return torch.from_numpy(points.astype(np.float32))


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size):
        super().__init__()
        half = size // 2
        self.register_buffer("freqs", torch.exp(-math.log(1000.0) * torch.arange(half) / (half - 1)))

    def forward(self, t):
        angles = t.float()[:, None] * self.freqs
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff = nn.Linear(size, size)
        self.act = nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class MLP(nn.Module):
    def __init__(self, hidden_size=96, hidden_layers=3, emb_size=32):
        super().__init__()
        self.time_mlp = SinusoidalEmbedding(emb_size)
        self.inp = nn.Linear(2 + emb_size, hidden_size)
        self.blocks = nn.Sequential(*[Block(hidden_size) for _ in range(hidden_layers)])
        self.out = nn.Linear(hidden_size, 2)

    def forward(self, x, t):
        x = torch.cat([x, self.time_mlp(t)], dim=-1)
        return self.out(self.blocks(F.gelu(self.inp(x))))


class NoiseScheduler:
    def __init__(self, num_timesteps=50, beta_start=1e-3, beta_end=0.15):
        self.num_timesteps = num_timesteps
        self.betas = torch.linspace(beta_start, beta_end, num_timesteps)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)

    def add_noise(self, x_start, noise, t):
        signal = self.alphas_cumprod[t].sqrt()[:, None]
        return signal * x_start + (1 - self.alphas_cumprod[t]).sqrt()[:, None] * noise

    def step(self, predicted, t, sample):
        beta, alpha, bar = self.betas[t], self.alphas[t], self.alphas_cumprod[t]
        mean = (sample - beta / (1 - bar).sqrt() * predicted) / alpha.sqrt()
        return mean + beta.sqrt() * torch.randn_like(sample) if t > 0 else mean


def sample_timesteps(count, num_timesteps):
    return torch.randint(0, num_timesteps, (count,))


@torch.no_grad()
def validation_loss(model, points, scheduler, seed=0):
    """The same noise and steps at each call, so that values can be compared."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(points.shape, generator=generator)
    t = torch.randint(0, scheduler.num_timesteps, (len(points),), generator=generator)
    return F.mse_loss(model(scheduler.add_noise(points, noise, t), t), noise).item()


@torch.no_grad()
def generate(model, scheduler, count=200):
    model.eval()
    sample = torch.randn(count, 2)
    for t in reversed(range(scheduler.num_timesteps)):
        sample = scheduler.step(model(sample, torch.full((count,), t)), t, sample)
    return sample


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train_batch_size", type=int, default=100)
    parser.add_argument("--num_epochs", type=int, default=15)
    parser.add_argument("--learning_rate", type=float, default=3e-3)
    parser.add_argument("--num_timesteps", type=int, default=50)
    parser.add_argument("--ema_decay", type=float, default=0.97)
    config = parser.parse_args()

    torch.manual_seed(0)
    train_points, val_points = ring_of_blobs(2000, seed=0), ring_of_blobs(500, seed=1)
    loader = DataLoader(TensorDataset(train_points), batch_size=config.train_batch_size, shuffle=True, drop_last=True)

    model = MLP()
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
    scheduler = NoiseScheduler(config.num_timesteps)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)

    for epoch in range(config.num_epochs):
        model.train()
        losses = []
        for (batch,) in loader:
            noise = torch.randn_like(batch)
            timesteps = sample_timesteps(len(batch), scheduler.num_timesteps)
            noisy = scheduler.add_noise(batch, noise, timesteps)
            loss = F.mse_loss(model(noisy, timesteps), noise)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ema.update_parameters(model)
            losses.append(loss.detach())
        mean = torch.stack(losses).mean().item()
        print(f"epoch {epoch}: train {mean:.4f}, validation {validation_loss(ema, val_points, scheduler):.4f}")
    radius = generate(ema, scheduler).norm(dim=1)
    print(f"radius of samples {radius.mean():.3f} +- {radius.std():.3f}, of data {val_points.norm(dim=1).mean():.3f}")


if __name__ == "__main__":
    main()
