"""Regression of a surface with random Fourier features and a penalty on the input gradient (double backprop)."""

import math
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Options:
    num_train: int = 1200
    num_val: int = 300
    num_frequencies: int = 24
    sigma: float = 0.4
    hidden: int = 64
    lr: float = 2e-3
    batch_size: int = 64
    penalty: float = 1e-3


def surface(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, 2, generator=generator) * 2 - 1
    y = torch.sin(3 * x[:, 0]) * torch.cos(2 * x[:, 1]) + 0.5 * x[:, 1]
    y = y + 0.05 * torch.randn(count, generator=generator)
    return x, y.unsqueeze(1)


class FourierFeatures(nn.Module):
    """Projection on random frequencies (Tancik et al.), which are drawn once."""

    def __init__(self, in_features, num_frequencies, sigma):
        super().__init__()
        frequencies = sigma * torch.randn(in_features, num_frequencies)
        self.register_buffer("frequencies", frequencies)

    def forward(self, x):
        phase = 2 * math.pi * x @ self.frequencies
        return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)


class FourierMLP(nn.Module):
    def __init__(self, opt):
        super().__init__()
        self.features = FourierFeatures(2, opt.num_frequencies, opt.sigma)
        self.mlp = nn.Sequential(
            nn.Linear(2 * opt.num_frequencies, opt.hidden), nn.Tanh(),
            nn.Linear(opt.hidden, opt.hidden), nn.Tanh(),
            nn.Linear(opt.hidden, 1),
        )

    def forward(self, x):
        return self.mlp(self.features(x))


class DoubleBackprop:
    def __init__(self, penalty):
        self.penalty = penalty

    def __call__(self, model, batch, optimizer, loss_fn):
        x, y = batch
        x = x.clone().requires_grad_(True)
        optimizer.zero_grad()
        prediction = model(x)
        fit = loss_fn(prediction, y)
        (slope,) = torch.autograd.grad(prediction.sum(), x, create_graph=True)
        total = fit + self.penalty * slope.pow(2).sum(dim=1).mean()
        total.backward()
        optimizer.step()
        return total.detach()


def setup():
    torch.manual_seed(4)
    opt = Options()
    model = FourierMLP(opt)
    train_set = TensorDataset(*surface(opt.num_train, seed=0))
    val_set = TensorDataset(*surface(opt.num_val, seed=1))
    trainable = [p for p in model.parameters() if p.requires_grad]
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=opt.batch_size, shuffle=True),
        "val": DataLoader(val_set, batch_size=150),
        "loss": F.mse_loss,
        "optimizer": torch.optim.Adam(trainable, lr=opt.lr),
        "step": DoubleBackprop(opt.penalty),
        "task": "regress",
    }
