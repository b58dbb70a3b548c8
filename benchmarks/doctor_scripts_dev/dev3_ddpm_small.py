"""Denoising diffusion on 8x8 digits of three classes with a small residual net and EMA weights."""
import argparse
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset


def cosine_beta_schedule(timesteps, s=0.008):
    x = torch.linspace(0, timesteps, timesteps + 1)
    acp = torch.cos(((x / timesteps) + s) / (1 + s) * math.pi * 0.5) ** 2
    acp = acp / acp[0]
    betas = 1 - (acp[1:] / acp[:-1])
    return torch.clip(betas, 0.0001, 0.999)


class SinusoidalPosEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, t):
        half = self.dim // 2
        freqs = torch.exp(torch.arange(half, device=t.device) * -(math.log(10000) / (half - 1)))
        args = t.float()[:, None] * freqs[None, :]
        return torch.cat([args.sin(), args.cos()], dim=-1)


class ResBlock(nn.Module):
    def __init__(self, dim, emb_dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, dim)
        self.emb = nn.Linear(emb_dim, dim)
        self.fc2 = nn.Linear(dim, dim)

    def forward(self, x, emb):
        h = self.fc1(F.silu(self.norm(x))) + self.emb(emb)
        return x + self.fc2(F.silu(h))


class Denoiser(nn.Module):
    def __init__(self, data_dim=64, dim=192, emb_dim=64, depth=3):
        super().__init__()
        self.time_mlp = nn.Sequential(SinusoidalPosEmb(32), nn.Linear(32, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim))
        self.inp = nn.Linear(data_dim, dim)
        self.blocks = nn.ModuleList([ResBlock(dim, emb_dim) for _ in range(depth)])
        self.out = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, data_dim))

    def forward(self, x, t):
        emb = self.time_mlp(t)
        h = self.inp(x)
        for block in self.blocks:
            h = block(h, emb)
        return self.out(h)


class GaussianDiffusion(nn.Module):
    def __init__(self, model, timesteps):
        super().__init__()
        self.model, self.num_timesteps = model, timesteps
        betas = cosine_beta_schedule(timesteps)
        alphas = 1.0 - betas
        alphas_cumprod = torch.cumprod(alphas, dim=0)
        prev = F.pad(alphas_cumprod[:-1], (1, 0), value=1.0)
        self.register_buffer("betas", betas)
        self.register_buffer("sqrt_acp", alphas_cumprod.sqrt())
        self.register_buffer("sqrt_one_minus_acp", (1.0 - alphas_cumprod).sqrt())
        self.register_buffer("coef1", betas * prev.sqrt() / (1.0 - alphas_cumprod))
        self.register_buffer("coef2", (1.0 - prev) * alphas.sqrt() / (1.0 - alphas_cumprod))
        self.register_buffer("posterior_var", betas * (1.0 - prev) / (1.0 - alphas_cumprod))

    def q_sample(self, x_start, t, noise):
        return self.sqrt_acp[t][:, None] * x_start + self.sqrt_one_minus_acp[t][:, None] * noise

    def forward(self, x_start, t=None):
        if t is None:
            t = torch.randint(0, self.num_timesteps, (len(x_start),), device=x_start.device)
        noise = torch.randn_like(x_start)
        x = self.q_sample(x_start, t, noise)
        model_out = self.model(x, t)
        return F.mse_loss(model_out, noise)

    @torch.no_grad()
    def sample(self, n):
        x = torch.randn(n, 64)
        for i in reversed(range(self.num_timesteps)):
            t = torch.full((n,), i)
            noise = self.model(x, t)
            x0 = ((x - self.sqrt_one_minus_acp[i] * noise) / self.sqrt_acp[i]).clamp(-1, 1)
            x = self.coef1[i] * x0 + self.coef2[i] * x
            if i > 0:
                x = x + self.posterior_var[i].sqrt() * torch.randn_like(x)
        return x


class EMA:
    def __init__(self, beta):
        self.beta = beta

    def update_model_average(self, ma_model, current_model):
        for current, ma in zip(current_model.parameters(), ma_model.parameters()):
            ma.data = ma.data * self.beta + (1 - self.beta) * current.data


def validation_loss(diffusion, x, repeats=4):
    """Denoising loss at fixed time steps, same noise every time."""
    diffusion.eval()
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        t = torch.arange(len(x)) % diffusion.num_timesteps
        return float(np.mean([diffusion(x, t).item() for _ in range(repeats)]))


def sample_distance(diffusion, reference, n=200):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        samples = diffusion.sample(n)
    return torch.cdist(samples, reference).min(1).values.mean().item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--timesteps", type=int, default=60)
    parser.add_argument("--train-lr", type=float, default=2e-3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--ema-decay", type=float, default=0.98)
    args = parser.parse_args()
    torch.manual_seed(0)
    digits = load_digits(n_class=3)
    x = torch.tensor(digits.data, dtype=torch.float32)
    x = x[torch.randperm(len(x))]
    x = x / 8.0 - 1.0
    x_train, x_val = x[:430], x[430:]
    loader = DataLoader(TensorDataset(x_train), batch_size=args.batch_size, shuffle=True, drop_last=True)
    diffusion = GaussianDiffusion(Denoiser(), args.timesteps)
    ema_diffusion = copy.deepcopy(diffusion)
    ema = EMA(args.ema_decay)
    opt = torch.optim.Adam(diffusion.parameters(), lr=args.train_lr, betas=(0.9, 0.99))
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=args.epochs, eta_min=1e-4)
    for epoch in range(args.epochs):
        diffusion.train()
        for (batch,) in loader:
            opt.zero_grad()
            loss = diffusion(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
            opt.step()
            ema.update_model_average(ema_diffusion, diffusion)
        sched.step()
        if (epoch + 1) % 10 == 0:
            print(f"epoch {epoch + 1} loss {loss.item():.4f} val {validation_loss(ema_diffusion, x_val):.4f}", flush=True)
    print(f"distance of samples to the nearest digit {sample_distance(ema_diffusion, x_train):.3f}")


if __name__ == "__main__":
    main()
