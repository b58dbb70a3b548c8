"""A tiny diffusion model of two moons in the plane: the network predicts the noise."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch.utils.data import DataLoader, TensorDataset


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size):
        super().__init__()
        half = size // 2
        self.register_buffer("frequencies", torch.exp(-math.log(10000.0) * torch.arange(half) / (half - 1)))

    def forward(self, t):
        angles = t.float()[:, None] * self.frequencies[None]
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    def __init__(self, size, time_size):
        super().__init__()
        self.norm = nn.LayerNorm(size)
        self.first = nn.Linear(size, size)
        self.time = nn.Linear(time_size, size)
        self.second = nn.Linear(size, size)

    def forward(self, x, emb):
        h = F.gelu(self.first(self.norm(x)) + self.time(emb))
        return x + self.second(h)


class NoiseNet(nn.Module):
    def __init__(self, size=96, time_size=32, depth=3):
        super().__init__()
        self.time = SinusoidalEmbedding(time_size)
        self.enter = nn.Linear(2, size)
        self.blocks = nn.ModuleList(Block(size, time_size) for _ in range(depth))
        self.leave = nn.Linear(size, 2)

    def forward(self, x, t):
        emb = self.time(t)
        h = self.enter(x)
        for block in self.blocks:
            h = block(h, emb)
        return self.leave(F.gelu(h))


class GaussianDiffusion(nn.Module):
    """forward(x) draws a time and noise for each sample, and gives (predicted noise, noise)."""

    def __init__(self, net, timesteps=100, beta_start=1e-3, beta_end=0.08):
        super().__init__()
        self.net = net
        self.timesteps = timesteps
        betas = torch.linspace(beta_start, beta_end, timesteps)
        alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        self.register_buffer("sqrt_alphas_cumprod", alphas_cumprod.sqrt())
        self.register_buffer("sqrt_one_minus_alphas_cumprod", (1.0 - alphas_cumprod).sqrt())

    def q_sample(self, x, t, noise):
        return self.sqrt_alphas_cumprod[t][:, None] * x + self.sqrt_one_minus_alphas_cumprod[t][:, None] * noise

    def forward(self, x):
        t = torch.randint(0, self.timesteps, (len(x),), device=x.device)
        noise = torch.randn_like(x)
        return self.net(self.q_sample(x, t, noise), t), noise


def noise_loss(outputs, targets=None):
    predicted, noise = outputs
    return F.mse_loss(predicted, noise)


def moons(count, seed):
    points, labels = make_moons(count, noise=0.05, random_state=seed)
    points = torch.tensor(points, dtype=torch.float32)
    points = (points - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])
    return TensorDataset(points, torch.tensor(labels, dtype=torch.long))


def setup():
    torch.manual_seed(1)
    net = NoiseNet()
    model = GaussianDiffusion(net)
    return {
        "model": model,
        "train": DataLoader(moons(1600, seed=0), batch_size=128, shuffle=True),
        "val": DataLoader(moons(400, seed=1), batch_size=200),
        "loss": noise_loss,
        "optimizer": lambda params: torch.optim.AdamW(params, lr=2e-3, weight_decay=1e-4),
    }
