"""Denoising diffusion on two moons, epsilon prediction, EMA weights, deterministic generator for the evaluation."""
import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    timesteps: int = 50
    hidden: int = 96
    lr: float = 2e-3
    iters: int = 1500
    bs: int = 256
    ema_decay: float = 0.99


def moons(n, g=None):
    t = math.pi * torch.rand(n, generator=g)
    up = torch.rand(n, generator=g) < 0.5
    x = torch.where(up, t.cos(), 1 - t.cos())
    y = torch.where(up, t.sin(), 0.5 - t.sin())
    pts = torch.stack([x - 0.5, y - 0.25], -1) * 1.3
    return pts + 0.03 * torch.randn(n, 2, generator=g)


class SinusoidalEmb(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.register_buffer("freqs", torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2)))

    def forward(self, t):
        a = t[:, None].float() * self.freqs
        return torch.cat([a.sin(), a.cos()], -1)


class Denoiser(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.temb = nn.Sequential(SinusoidalEmb(32), nn.Linear(32, cfg.hidden), nn.SiLU())
        self.inp, self.out = nn.Linear(2, cfg.hidden), nn.Linear(cfg.hidden, 2)
        self.mid = nn.ModuleList([nn.Linear(cfg.hidden, cfg.hidden) for _ in range(3)])
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        h, e = self.inp(x), self.temb(t)
        for layer in self.mid:
            h = h + F.silu(layer(h + e))
        return self.out(h)


class Diffusion(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.T, self.model = cfg.timesteps, Denoiser(cfg)
        betas = torch.linspace(1e-3, 0.2, cfg.timesteps)
        self.register_buffer("betas", betas)
        self.register_buffer("abar", torch.cumprod(1 - betas, 0))

    def p_losses(self, x0, t, noise):
        a = self.abar[t][:, None]
        return F.mse_loss(self.model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t), noise)

    def forward(self, x0):
        t = torch.randint(0, self.T, (x0.shape[0],))
        return self.p_losses(x0, t, torch.randn_like(x0))

    @torch.no_grad()
    def sample(self, n):
        x = torch.randn(n, 2)
        for i in reversed(range(self.T)):
            eps = self.model(x, torch.full((n,), i))
            b, a = self.betas[i], self.abar[i]
            x = (x - b / (1 - a).sqrt() * eps) / (1 - b).sqrt()
            if i:
                x = x + b.sqrt() * torch.randn_like(x)
        return x


def chamfer(a, b):
    d = torch.cdist(a, b)
    return (d.min(0).values.mean() + d.min(1).values.mean()).item()


if __name__ == "__main__":
    cfg = Config()
    torch.manual_seed(0)
    diffusion, ema = Diffusion(cfg), Diffusion(cfg)
    ema.load_state_dict(diffusion.state_dict())
    ema.eval()
    opt = torch.optim.AdamW(diffusion.parameters(), lr=cfg.lr)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, cfg.iters, eta_min=1e-5)
    held_out = moons(600, torch.Generator().manual_seed(77))
    print("chamfer of pure noise", chamfer(torch.randn(600, 2), held_out))
    running = None
    for it in range(1, cfg.iters + 1):
        loss = diffusion(moons(cfg.bs))
        loss.backward()
        opt.step(), opt.zero_grad(), sched.step()
        for pe, p in zip(ema.state_dict().values(), diffusion.state_dict().values()):
            pe.mul_(cfg.ema_decay).add_(p, alpha=1 - cfg.ema_decay)
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        if it % 250 == 0:
            print(f"{it:5d} eps-mse {running:.3f} chamfer {chamfer(ema.sample(600), held_out):.3f}")
