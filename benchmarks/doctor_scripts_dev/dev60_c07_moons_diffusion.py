"""Denoising diffusion on points of two half moons, with an average of the weights for sampling."""

import argparse
import copy
import math

import torch
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def moons(count, seed):
    points, _ = make_moons(count, noise=0.05, random_state=seed)
    points = torch.tensor(points, dtype=torch.float32)
    return (points - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.50])


class Diffusion:
    def __init__(self, steps=100, beta_start=1e-3, beta_end=0.1):
        self.steps = steps
        self.betas = torch.linspace(beta_start, beta_end, steps)
        self.alphas = 1 - self.betas
        self.alphas_bar = torch.cumprod(self.alphas, dim=0)

    def sample_timesteps(self, count):
        return torch.randint(0, self.steps, (count,))

    def add_noise(self, x, noise, t):
        signal = self.alphas_bar[t].sqrt()[:, None]
        return signal * x + (1 - self.alphas_bar[t]).sqrt()[:, None] * noise

    @torch.no_grad()
    def sample(self, model, count):
        model.eval()
        x = torch.randn(count, 2)
        for step in reversed(range(self.steps)):
            t = torch.full((count,), step)
            predicted = model(x, t)
            x = x - self.betas[step] / (1 - self.alphas_bar[step]).sqrt() * predicted
            x = x / self.alphas[step].sqrt()
            if step > 0:
                x = x + self.betas[step].sqrt() * torch.randn_like(x)
        return x


class Denoiser(nn.Module):
    def __init__(self, steps, hidden=96, time_dim=32):
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, math.log(1000), time_dim // 2))
        self.register_buffer("frequencies", frequencies)
        self.steps = steps
        self.net = nn.Sequential(
            nn.Linear(2 + time_dim, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, 2),
        )

    def forward(self, x, t):
        angle = (t.float() / self.steps)[:, None] * self.frequencies[None, :]
        return self.net(torch.cat([x, angle.sin(), angle.cos()], dim=1))


class EMA:
    def __init__(self, model, decay=0.98):
        self.model, self.decay, self.updates = copy.deepcopy(model).eval(), decay, 0
        self.model.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, value in zip(self.model.parameters(), model.parameters()):
            average.lerp_(value, 1 - decay)


@torch.no_grad()
def validation_loss(model, diffusion, points, seed=5):
    """The same times and the same noise each time, so that epochs can be compared."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    t = torch.randint(0, diffusion.steps, (len(points),), generator=generator)
    noise = torch.randn(points.shape, generator=generator)
    return F.mse_loss(model(diffusion.add_noise(points, noise, t), t), noise).item()


def energy_distance(a, b):
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_points, val_points = moons(1920, seed=1), moons(400, seed=2)
    loader = DataLoader(TensorDataset(train_points), args.batch_size, shuffle=True, drop_last=True)
    diffusion = Diffusion()
    model = Denoiser(diffusion.steps)
    ema = EMA(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(args.epochs):
        model.train()
        running = 0.0
        for (x,) in loader:
            t = diffusion.sample_timesteps(len(x))
            noise = torch.randn_like(x)
            loss = F.mse_loss(model(diffusion.add_noise(x, noise, t), t), noise)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            ema.update(model)
            running += loss.item()
        val = validation_loss(ema.model, diffusion, val_points)
        print(f"epoch {epoch + 1:2d}  train {running / len(loader):.4f}  val (ema) {val:.4f}")

    samples = diffusion.sample(ema.model, 400)
    print(f"energy distance: samples {energy_distance(samples, val_points):.4f}, "
          f"noise {energy_distance(torch.randn(400, 2), val_points):.4f}")


if __name__ == "__main__":
    main()
