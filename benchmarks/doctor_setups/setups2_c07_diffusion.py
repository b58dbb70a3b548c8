"""DDPM on short signals: a network predicts the noise that the step adds."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

TIMESTEPS = 100
LENGTH = 16


def make_signals(count, seed):
    """Sines of one or two periods, any phase, of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(LENGTH) / LENGTH
    periods = torch.randint(1, 3, (count, 1), generator=generator)
    phase = 2 * math.pi * torch.rand(count, 1, generator=generator)
    return math.sqrt(2) * torch.sin(2 * math.pi * periods * time + phase)


def timestep_embedding(t, dim=32):
    half = dim // 2
    freqs = torch.exp(-math.log(1000) * torch.arange(half) / half)
    args = t[:, None].float() * freqs[None]
    return torch.cat([torch.cos(args), torch.sin(args)], dim=1)


class Denoiser(nn.Module):
    def __init__(self, hidden=160):
        super().__init__()
        self.time_mlp = nn.Sequential(nn.Linear(32, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.inp = nn.Linear(LENGTH, hidden)
        self.mid1 = nn.Linear(hidden, hidden)
        self.mid2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, LENGTH)

    def forward(self, x, t=None):
        if t is None:
            t = torch.zeros(len(x), dtype=torch.long)
        h = F.silu(self.inp(x) + self.time_mlp(timestep_embedding(t)))
        h = h + F.silu(self.mid1(h))
        h = h + F.silu(self.mid2(h))
        return self.out(h)


class GaussianDiffusion:
    def __init__(self, timesteps):
        betas = torch.linspace(1e-3, 0.06, timesteps)
        alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        self.timesteps = timesteps
        self.sqrt_ac = alphas_cumprod.sqrt()
        self.sqrt_om = (1.0 - alphas_cumprod).sqrt()

    def training_step(self, model, batch, optimizer, loss_fn):
        x0 = batch[0]
        t = torch.randint(0, self.timesteps, (len(x0),))
        noise = torch.randn_like(x0)
        a, s = self.sqrt_ac[t][:, None], self.sqrt_om[t][:, None]
        x_t = a * x0 + s * noise
        target = noise
        optimizer.zero_grad()
        loss = loss_fn(model(x_t, t), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss


def setup():
    torch.manual_seed(11)
    train_set = TensorDataset(make_signals(1500, seed=0))
    val_set = TensorDataset(make_signals(300, seed=1))
    diffusion = GaussianDiffusion(TIMESTEPS)
    model = Denoiser()
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=128, shuffle=True, drop_last=True),
        "val": DataLoader(val_set, batch_size=150),
        "loss": nn.MSELoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=2e-3),
        "step": diffusion.training_step,
    }
