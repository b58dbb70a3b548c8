"""A tiny diffusion model of points in the plane, after tiny-diffusion: the collate function adds the noise."""

import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

config = {"train_batch_size": 64, "num_timesteps": 50, "hidden_size": 128, "hidden_layers": 3, "learning_rate": 1e-3}


def four_gaussians(count, seed):
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(0, 4, (count,), generator=generator) * (2 * math.pi / 4)
    centers = torch.stack([angle.cos(), angle.sin()], dim=1) * math.sqrt(2)
    return centers + 0.1 * torch.randn(count, 2, generator=generator)


class NoiseScheduler:
    """Cosine schedule of Nichol & Dhariwal."""

    def __init__(self, num_timesteps):
        self.num_timesteps = num_timesteps
        time = (torch.arange(num_timesteps) + 1) / num_timesteps
        alpha_bar = torch.cos((time + 0.008) / 1.008 * math.pi / 2) ** 2
        self.sqrt_alpha_bar = alpha_bar.sqrt()
        self.sqrt_one_minus = (1 - alpha_bar).sqrt()

    def add_noise(self, x0, noise, t):
        return self.sqrt_alpha_bar[t][:, None] * x0 + self.sqrt_one_minus[t][:, None] * noise

    def target(self, x0, noise, t):
        return noise


class NoiseCollate:
    """Of a list of points: (x_t, t) as inputs, and what is to be predicted as targets."""

    def __init__(self, scheduler):
        self.scheduler = scheduler

    def __call__(self, samples):
        x0 = torch.stack([sample[0] for sample in samples])
        noise = torch.randn_like(x0)
        t = torch.randint(0, self.scheduler.num_timesteps, (len(x0),))
        noisy = self.scheduler.add_noise(x0, noise, t)
        time = (t.float() / self.scheduler.num_timesteps)[:, None]
        return torch.cat([noisy, time], dim=1), self.scheduler.target(x0, noise, t)


class Block(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.ff = nn.Linear(size, size)
        self.act = nn.GELU()

    def forward(self, x):
        return x + self.act(self.ff(x))


class Denoiser(nn.Module):
    def __init__(self, hidden_size=128, hidden_layers=3):
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(4))
        self.inputs = nn.Linear(2 + 8, hidden_size)
        self.blocks = nn.Sequential(nn.GELU(), *[Block(hidden_size) for _ in range(hidden_layers)])
        self.outputs = nn.Linear(hidden_size, 2)

    def forward(self, x):
        points, time = x[:, :2], x[:, 2:]
        angles = time * self.frequencies
        embedded = torch.cat([points, angles.sin(), angles.cos()], dim=1)
        return self.outputs(self.blocks(self.inputs(embedded)))


def setup():
    torch.manual_seed(2)
    collate = NoiseCollate(NoiseScheduler(config["num_timesteps"]))
    train_set = TensorDataset(four_gaussians(1600, seed=0))
    val_set = TensorDataset(four_gaussians(400, seed=1))
    model = Denoiser(config["hidden_size"], config["hidden_layers"])
    return {
        "model": model,
        "train": DataLoader(
            train_set, batch_size=config["train_batch_size"], shuffle=True, drop_last=True, collate_fn=collate
        ),
        "val": DataLoader(val_set, batch_size=200, collate_fn=collate),
        "loss": nn.MSELoss(),
        "optimizer": torch.optim.AdamW(model.parameters(), lr=config["learning_rate"]),
        "task": "regress",
    }
