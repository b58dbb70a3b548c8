"""Convolutional variational autoencoder of digit images; reports ELBO, reconstruction and what the codes know."""

import argparse
import os
import tempfile

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits


class VAE(nn.Module):
    def __init__(self, latent=8, width=24):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(1, width, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(2 * width * 16, 128), nn.ReLU(),
        )
        self.fc_mu = nn.Linear(128, latent)
        self.fc_logvar = nn.Linear(128, latent)
        self.dec = nn.Sequential(
            nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 2 * width * 16), nn.ReLU(),
            nn.Unflatten(1, (2 * width, 4, 4)),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, 2, 1),
        )

    def encode(self, x):
        h = self.enc(x)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar) if self.training else mu
        return self.dec(z), mu, logvar


def loss_function(logits, x, mu, logvar):
    """Both terms are sums over pixels / codes, averaged over the images of the batch."""
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce, kld


def to_tensor(image):
    return image.float() / 255


def train_epoch(model, loader, optimizer, beta):
    model.train()
    totals = torch.zeros(2)
    for x, _ in loader:
        logits, mu, logvar = model(x)
        bce, kld = loss_function(logits, x, mu, logvar)
        loss = bce + beta * kld
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals += torch.tensor([bce.item(), kld.item()]) * len(x)
    return (totals / len(loader.dataset)).tolist()


@torch.no_grad()
def test_epoch(model, loader):
    model.eval()
    totals, mse = torch.zeros(2), 0.0
    for x, _ in loader:
        logits, mu, logvar = model(x)
        bce, kld = loss_function(logits, x, mu, logvar)
        totals += torch.tensor([bce.item(), kld.item()]) * len(x)
        mse += (torch.sigmoid(logits) - x).pow(2).mean((1, 2, 3)).sum().item()
    bce, kld = (totals / len(loader.dataset)).tolist()
    return bce, kld, mse / len(loader.dataset)


@torch.no_grad()
def neighbor_accuracy(model, train_loader, test_loader):
    """Share of test digits whose nearest training code is of their class."""
    model.eval()

    def codes(loader):
        pairs = [(model.encode(x)[0], y) for x, y in loader]
        return torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])

    (z_train, y_train), (z_test, y_test) = codes(train_loader), codes(test_loader)
    nearest = torch.cdist(z_test, z_train).argmin(1)
    return (y_train[nearest] == y_test).float().mean().item()


def main():
    parser = argparse.ArgumentParser(description="VAE digits example")
    parser.add_argument("--batch-size", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=22)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--latent", type=int, default=8)
    parser.add_argument("--kl-warmup", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    options = {"noise": 0.05, "shift": 1, "transform": to_tensor}
    train_loader = DataLoader(Digits(train=True, count=2000, **options), args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(train=False, count=300, **options), args.batch_size)

    model = VAE(args.latent)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        beta = min(1.0, epoch / args.kl_warmup)
        bce, kld = train_epoch(model, train_loader, optimizer, beta)
        t_bce, t_kld, mse = test_epoch(model, test_loader)
        print(f"====> Epoch {epoch}: train {bce:.2f} + {kld:.2f}, test {t_bce:.2f} + {t_kld:.2f} = {t_bce + t_kld:.2f}, mse {mse:.4f}")

    path = os.path.join(tempfile.mkdtemp(), "vae.pt")
    torch.save({"model": model.state_dict(), "args": vars(args)}, path)
    accuracy = neighbor_accuracy(model, train_loader, test_loader)
    print(f"test -ELBO {t_bce + t_kld:.2f}  mse {mse:.4f}  nearest-code accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
