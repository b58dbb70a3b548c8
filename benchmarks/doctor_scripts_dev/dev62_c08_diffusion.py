"""Denoising diffusion of points in the plane, like tiny-diffusion."""

import argparse
import copy
import math

import numpy as np
import torch
from sklearn.datasets import make_moons
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, x):
        half = self.size // 2
        frequencies = torch.exp(-math.log(10000.0) / (half - 1) * torch.arange(half))
        angles = (x * self.scale).unsqueeze(-1) * frequencies
        return torch.cat((torch.sin(angles), torch.cos(angles)), dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff1 = nn.Linear(size, size)
        self.ff2 = nn.Linear(size, size)

    def forward(self, x):
        return x + self.ff2(F.gelu(self.ff1(x)))


class MLP(nn.Module):
    def __init__(self, hidden_size=96, hidden_layers=3, emb_size=32):
        super().__init__()
        self.time_mlp = SinusoidalEmbedding(emb_size)
        self.input_mlp1 = SinusoidalEmbedding(emb_size, scale=25.0)
        self.input_mlp2 = SinusoidalEmbedding(emb_size, scale=25.0)
        self.stem = nn.Linear(3 * emb_size + 2, hidden_size)
        self.blocks = nn.ModuleList([Block(hidden_size) for _ in range(hidden_layers)])
        self.out = nn.Linear(hidden_size, 2)
        self.reset_parameters()

    def reset_parameters(self):
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x, t):
        x = torch.cat((x, self.input_mlp1(x[:, 0]), self.input_mlp2(x[:, 1]), self.time_mlp(t.float())), dim=-1)
        x = F.gelu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class NoiseScheduler:
    def __init__(self, num_timesteps=50, beta_start=1e-3, beta_end=0.2):
        self.num_timesteps = num_timesteps
        self.betas = torch.linspace(beta_start, beta_end, num_timesteps)
        self.alphas = 1.0 - self.betas
        self.alphas_cumprod = torch.cumprod(self.alphas, dim=0)

    def add_noise(self, x_start, noise, t):
        a = self.alphas_cumprod[t].unsqueeze(-1)
        return a.sqrt() * x_start + (1 - a).sqrt() * noise

    def step(self, model_output, t, sample):
        mean = sample - self.betas[t] / (1 - self.alphas_cumprod[t]).sqrt() * model_output
        mean = mean / self.alphas[t].sqrt()
        return mean if t == 0 else mean + self.betas[t].sqrt() * torch.randn_like(sample)


def points(n, seed):
    x, _ = make_moons(n_samples=n, noise=0.04, random_state=seed)
    return torch.from_numpy((x - [0.5, 0.25]) / [0.87, 0.5]).float()


@torch.no_grad()
def validation_loss(model, scheduler, x):
    """The same noise and steps each time, so that epochs can be compared."""
    g = torch.Generator().manual_seed(0)
    x = x.repeat(4, 1)
    noise = torch.randn(x.shape, generator=g)
    t = torch.randint(0, scheduler.num_timesteps, (len(x),), generator=g)
    model.eval()
    return F.mse_loss(model(scheduler.add_noise(x, noise, t), t), noise).item()


@torch.no_grad()
def sample(model, scheduler, n=300):
    model.eval()
    x = torch.randn(n, 2)
    for t in reversed(range(scheduler.num_timesteps)):
        x = scheduler.step(model(x, torch.full((n,), t)), t, x)
    return x


@torch.no_grad()
def update_ema(average, model, decay):
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1 - decay)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train_batch_size", type=int, default=64)
    parser.add_argument("--num_epochs", type=int, default=15)
    parser.add_argument("--learning_rate", type=float, default=2e-3)
    parser.add_argument("--ema_decay", type=float, default=0.97)
    config = parser.parse_args()

    torch.manual_seed(0)
    train_points, val_points = points(2000, seed=0), points(400, seed=1)
    loader = DataLoader(TensorDataset(train_points), batch_size=config.train_batch_size, shuffle=True, drop_last=True)
    model, noise_scheduler = MLP(), NoiseScheduler()
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate)

    for epoch in range(config.num_epochs):
        model.train()
        losses = []
        for (batch,) in loader:
            noise = torch.randn(batch.shape)
            timesteps = torch.randint(0, noise_scheduler.num_timesteps, (batch.shape[0],))
            noisy = noise_scheduler.add_noise(batch, noise, timesteps)
            loss = F.mse_loss(model(noisy, timesteps), noise)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            update_ema(average, model, config.ema_decay)
            losses.append(loss.detach().item())
        val = validation_loss(average, noise_scheduler, val_points)
        print(f"epoch {epoch} loss {np.mean(losses):.4f} val {val:.4f}")
    distance = torch.cdist(sample(average, noise_scheduler), val_points).min(dim=1).values.mean()
    print(f"mean distance of samples to held-out points: {distance:.3f}")


if __name__ == "__main__":
    main()
