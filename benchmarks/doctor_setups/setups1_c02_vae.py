"""Variational autoencoder of small digits, after the PyTorch examples."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

SIZE, LATENT, HIDDEN = 16, 12, 200


class VAE(nn.Module):
    def __init__(self, latent=LATENT, hidden=HIDDEN):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, hidden), nn.ReLU())
        self.fc_mu = nn.Linear(hidden, latent)
        self.fc_logvar = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, SIZE * SIZE),
        )

    def encode(self, x):
        h = self.encoder(x)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        std = torch.exp(0.5 * logvar)
        return mu + std * torch.randn_like(std)

    def decode(self, z):
        return self.decoder(z).view(-1, 1, SIZE, SIZE)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def elbo(outputs, x):
    """Negative evidence lower bound in nats an image."""
    recon, mu, logvar = outputs
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kld) / x.shape[0]


def make_loader(count, seed, batch_size, shuffle):
    images, _ = draw_digits(count, size=SIZE, seed=seed, noise=0.03, shift=1)
    images = images.float() / 255.0
    # the target of an autoencoder is its input
    return DataLoader(TensorDataset(images, images), batch_size=batch_size, shuffle=shuffle)


def setup():
    torch.manual_seed(1)
    return {
        "model": VAE(),
        "train": make_loader(1200, seed=20, batch_size=64, shuffle=True),
        "val": make_loader(300, seed=21, batch_size=100, shuffle=False),
        "loss": elbo,
        "optimizer": lambda params: torch.optim.Adam(params, lr=2e-3),
        "task": "regress",
    }
