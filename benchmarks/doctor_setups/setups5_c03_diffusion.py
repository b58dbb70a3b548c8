"""DDPM on two moons: an MLP predicts the noise that was added (after tiny-diffusion)."""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch.utils.data import DataLoader, TensorDataset

config = dict(timesteps=50, beta_start=1e-3, beta_end=0.2, hidden=128, layers=3, emb=32, lr=1e-3, batch_size=128)


class SinusoidalEmbedding(nn.Module):
    def __init__(self, size, scale=1.0):
        super().__init__()
        self.size, self.scale = size, scale

    def forward(self, x):
        half = self.size // 2
        freqs = torch.exp(-math.log(10000.0) * torch.arange(half, device=x.device) / (half - 1))
        angles = (x * self.scale).unsqueeze(-1) * freqs
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff = nn.Linear(size, size)
        self.act = nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class NoiseMLP(nn.Module):
    def __init__(self, hidden, layers, emb):
        super().__init__()
        self.time_emb = SinusoidalEmbedding(emb)
        self.coord_emb = SinusoidalEmbedding(emb, scale=25.0)
        self.stem = nn.Linear(3 * emb, hidden)
        self.blocks = nn.Sequential(*[Block(hidden) for _ in range(layers)])
        self.out = nn.Linear(hidden, 2)

    def forward(self, x, t):
        emb = torch.cat([self.coord_emb(x[:, 0]), self.coord_emb(x[:, 1]), self.time_emb(t.float())], dim=1)
        return self.out(self.blocks(F.gelu(self.stem(emb))))


class GaussianDiffusion(nn.Module):
    """forward: noise at a random time, and the network's guess of it."""

    def __init__(self, net, timesteps, beta_start, beta_end):
        super().__init__()
        self.net, self.timesteps = net, timesteps
        betas = torch.linspace(beta_start, beta_end, timesteps)
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        self.register_buffer("sqrt_ac", alphas_cumprod.sqrt())
        self.register_buffer("sqrt_omac", (1 - alphas_cumprod).sqrt())

    def q_sample(self, x0, t, noise):
        return self.sqrt_ac[t, None] * x0 + self.sqrt_omac[t, None] * noise

    def forward(self, x0):
        t = torch.randint(0, self.timesteps, (len(x0),), device=x0.device)
        noise = torch.randn_like(x0)
        return self.net(self.q_sample(x0, t, noise), t), noise


def noise_loss(outputs, targets):
    predicted, noise = outputs
    return F.mse_loss(predicted, noise)


def moons(count, seed):
    points, labels = make_moons(count, noise=0.04, random_state=seed)
    points = (points - [0.5, 0.25]) / [0.87, 0.5]
    return TensorDataset(torch.tensor(points, dtype=torch.float32), torch.tensor(labels))


def setup():
    torch.manual_seed(2)
    train = DataLoader(moons(1600, 0), batch_size=config["batch_size"], shuffle=True, drop_last=True)
    val = DataLoader(moons(400, 1), batch_size=400)
    net = NoiseMLP(config["hidden"], config["layers"], config["emb"])
    model = GaussianDiffusion(net, config["timesteps"], config["beta_start"], config["beta_end"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=config["lr"])
    return dict(model=model, train=train, val=val, loss=noise_loss, optimizer=optimizer)
