"""A variational autoencoder of digits; the weight of the KL term rises in the first steps."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

cfg = {"latent": 8, "hidden": 128, "warmup": 100, "free_bits": 0.0, "lr": 2e-3, "batch_size": 64}


class VAE(nn.Module):
    """forward(x) gives (logits of the pixels, pixels, mean, log variance)."""

    def __init__(self, pixels, hidden, latent):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU())
        self.mu = nn.Linear(hidden, latent)
        self.logvar = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, pixels))

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def forward(self, x):
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.decoder(self.reparameterize(mu, logvar)), x.flatten(1), mu, logvar


class ELBO(nn.Module):
    """Negative evidence lower bound in nats an image; beta is set by the step."""

    def __init__(self, free_bits=0.0):
        super().__init__()
        self.free_bits = free_bits
        self.beta = 1.0

    def forward(self, outputs, targets=None):
        logits, x, mu, logvar = outputs
        reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        kl = 0.5 * (mu.pow(2) + logvar.exp() - 1 - logvar).mean(dim=0)
        return reconstruction + self.beta * kl.clamp(min=self.free_bits).sum()


def make_step(elbo, warmup):
    state = {"steps": 0}

    def step(model, batch, optimizer, criterion):
        state["steps"] += 1
        elbo.beta = min(1.0, state["steps"] / warmup)
        optimizer.zero_grad()
        loss = criterion(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        elbo.beta = 1.0
        return loss

    return step


def digits(count, seed):
    images, labels = draw_digits(count, seed=seed, shift=1, noise=0.02)
    return TensorDataset(images.float() / 255, labels)


def setup():
    torch.manual_seed(0)
    model = VAE(256, cfg["hidden"], cfg["latent"])
    elbo = ELBO(cfg["free_bits"])
    return {
        "model": model,
        "train": DataLoader(digits(1500, 0), batch_size=cfg["batch_size"], shuffle=True, drop_last=True),
        "val": DataLoader(digits(300, 1), batch_size=100),
        "loss": elbo,
        "optimizer": torch.optim.Adam(model.parameters(), lr=cfg["lr"]),
        "step": make_step(elbo, cfg["warmup"]),
    }
