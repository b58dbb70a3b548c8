"""A denoising diffusion model of points in the plane: eight clusters on a circle."""

import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

MODES, RADIUS, SPREAD = 8, math.sqrt(2), 0.1  # each coordinate has a standard deviation of about one


def sample_data(count, generator):
    angle = 2 * math.pi * torch.randint(0, MODES, (count,), generator=generator) / MODES
    centers = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    return centers + SPREAD * torch.randn(count, 2, generator=generator)


class SinusoidalEmbedding(nn.Module):
    def __init__(self, dim):
        super().__init__()
        half = dim // 2
        self.register_buffer("frequencies", torch.exp(-math.log(1000.0) * torch.arange(half) / (half - 1)))

    def forward(self, t):
        angles = t.float()[:, None] * self.frequencies[None, :]
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResidualBlock(nn.Module):
    def __init__(self, dim, time_dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, dim)
        self.time = nn.Linear(time_dim, dim)
        self.linear2 = nn.Linear(dim, dim)

    def forward(self, x, t):
        h = F.silu(self.linear1(self.norm(x)) + self.time(t))
        return x + self.linear2(h)


class NoisePredictor(nn.Module):
    def __init__(self, dim=128, time_dim=32, depth=3):
        super().__init__()
        self.embed = SinusoidalEmbedding(time_dim)
        self.input = nn.Linear(2, dim)
        self.blocks = nn.ModuleList([ResidualBlock(dim, time_dim) for _ in range(depth)])
        self.output = nn.Sequential(nn.LayerNorm(dim), nn.SiLU(), nn.Linear(dim, 2))

    def forward(self, x, t):
        t = self.embed(t)
        x = self.input(x)
        for block in self.blocks:
            x = block(x, t)
        return self.output(x)


class Diffusion:
    def __init__(self, steps=100, beta_start=1e-4, beta_end=0.1):
        self.steps = steps
        self.betas = torch.linspace(beta_start, beta_end, steps)
        self.alphas = 1 - self.betas
        self.alpha_bars = torch.cumprod(self.alphas, dim=0)

    def add_noise(self, x0, t, noise):
        a = self.alpha_bars[t][:, None]
        return a.sqrt() * x0 + (1 - a).sqrt() * noise

    def loss(self, model, x0, t, noise):
        return F.mse_loss(model(self.add_noise(x0, t, noise), t), noise)

    @torch.no_grad()
    def sample(self, model, count):
        x = torch.randn(count, 2)
        for step in reversed(range(self.steps)):
            t = torch.full((count,), step, dtype=torch.long)
            predicted = model(x, t)
            beta, alpha, alpha_bar = self.betas[step], self.alphas[step], self.alpha_bars[step]
            x = (x - beta / (1 - alpha_bar).sqrt() * predicted) / alpha.sqrt()
            if step > 0:
                x = x + beta.sqrt() * torch.randn_like(x)
        return x


def quality(points):
    """Share of the points that lie near a cluster, and the share of the least visited cluster."""
    angle = 2 * math.pi * torch.arange(MODES) / MODES
    centers = RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)
    distance, nearest = torch.cdist(points, centers).min(dim=1)
    near = distance < 3.5 * SPREAD
    shares = torch.bincount(nearest[near], minlength=MODES) / len(points)
    return near.float().mean().item(), shares.min().item()


@torch.no_grad()
def update_average(average, model, decay=0.995):
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1 - decay)


def main(epochs=60, batch_size=256, lr=2e-3):
    torch.manual_seed(31)
    generator = torch.Generator().manual_seed(32)
    train, held_out = sample_data(8000, generator), sample_data(2000, generator)
    diffusion = Diffusion()
    # the same times and noise for validation in every epoch
    held_t = torch.randint(0, diffusion.steps, (len(held_out),), generator=generator)
    held_noise = torch.randn(held_out.shape, generator=generator)

    loader = DataLoader(TensorDataset(train), batch_size=batch_size, shuffle=True, drop_last=True)
    model = NoisePredictor()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=1e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs * len(loader))

    print(f"random points: near a cluster {quality(torch.randn(2000, 2))[0]:.3f}")
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for (x0,) in loader:
            t = torch.randint(0, diffusion.steps, (len(x0),))
            loss = diffusion.loss(model, x0, t, torch.randn_like(x0))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
            update_average(average, model)
            total += loss.item()
        average.eval()
        with torch.no_grad():
            held_loss = diffusion.loss(average, held_out, held_t, held_noise).item()
        line = f"epoch {epoch:2d}: loss {total / len(loader):.4f} held out {held_loss:.4f}"
        if epoch % 5 == 0:
            near, least = quality(diffusion.sample(average, 1000))
            line += f" | near a cluster {near:.3f}, least visited {least:.3f} (ideal 0.125)"
        print(line)


if __name__ == "__main__":
    main()
