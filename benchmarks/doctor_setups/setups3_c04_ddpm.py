"""Denoising diffusion on digits: a small U-Net predicts the noise that was added at a random time."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

CFG = {"timesteps": 100, "channels": 24, "batch_size": 32, "lr": 2e-3}


def time_embedding(t, dim):
    frequencies = torch.exp(-math.log(1000.0) * torch.arange(dim // 2, device=t.device) / (dim // 2))
    angles = t.float()[:, None] * frequencies[None]
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    def __init__(self, inputs, outputs, time_dim):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, outputs)
        self.time = nn.Linear(time_dim, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = nn.GroupNorm(4, outputs)

    def forward(self, x, emb):
        h = F.silu(self.norm1(self.conv1(x)))
        h = h + self.time(emb)[:, :, None, None]
        return F.silu(self.norm2(self.conv2(h)))


class UNet(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.dim = 2 * channels
        self.embed = nn.Sequential(nn.Linear(self.dim, self.dim), nn.SiLU())
        self.down = Block(1, channels, self.dim)
        self.middle = Block(channels, 2 * channels, self.dim)
        self.up = Block(3 * channels, channels, self.dim)
        self.final = nn.Conv2d(channels, 1, 1)

    def forward(self, x, t):
        emb = self.embed(time_embedding(t, self.dim))
        skip = self.down(x, emb)
        h = self.middle(F.avg_pool2d(skip, 2), emb)
        h = F.interpolate(h, scale_factor=2, mode="nearest")
        return self.final(self.up(torch.cat([h, skip], dim=1), emb))


class GaussianDiffusion(nn.Module):
    """forward(images) draws times and noise, and gives the error of each image."""

    def __init__(self, network, timesteps):
        super().__init__()
        self.network, self.timesteps = network, timesteps
        betas = torch.linspace(1e-3, 0.2, timesteps)
        alphas_bar = torch.cumprod(1 - betas, dim=0)
        self.register_buffer("signal", alphas_bar.sqrt())
        self.register_buffer("sigma", (1 - alphas_bar).sqrt())

    def q_sample(self, x, t, noise):
        return self.signal[t][:, None, None, None] * x + self.sigma[t][:, None, None, None] * noise

    def forward(self, x):
        t = torch.randint(0, self.timesteps, (len(x),), device=x.device)
        noise = torch.randn_like(x)
        predicted = self.network(self.q_sample(x, t, noise), t)
        return (predicted - noise).pow(2).flatten(1).mean(1)


def diffusion_loss(outputs, _labels=None):
    return outputs.mean()


def load(count, seed):
    images, labels = draw_digits(count, seed=seed, noise=0.03)
    return TensorDataset(images.float() / 127.5 - 1, labels)


def setup():
    torch.manual_seed(3)
    network = UNet(CFG["channels"])
    model = GaussianDiffusion(network, CFG["timesteps"])
    return {
        "model": model,
        "train": DataLoader(load(1200, 0), batch_size=CFG["batch_size"], shuffle=True),
        "val": DataLoader(load(200, 1), batch_size=100),
        "loss": diffusion_loss,
        "optimizer": torch.optim.AdamW(model.parameters(), lr=CFG["lr"], weight_decay=1e-4),
    }
