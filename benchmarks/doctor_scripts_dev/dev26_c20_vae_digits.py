"""Variational autoencoder on digits: Bernoulli likelihood, and the KL term is warmed up."""

import argparse

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

parser = argparse.ArgumentParser(description="VAE digits example")
parser.add_argument("--batch-size", type=int, default=64, metavar="N")
parser.add_argument("--epochs", type=int, default=24, metavar="N")
parser.add_argument("--latent", type=int, default=8)
parser.add_argument("--warmup-epochs", type=int, default=5, help="epochs until the KL term has its full weight")
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--seed", type=int, default=1, metavar="S")


class VAE(nn.Module):
    def __init__(self, latent, width=24):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, width, 4, stride=2, padding=1),  # 8 x 8
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),  # 4 x 4
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 128),
            nn.ReLU(),
        )
        self.fc_mu = nn.Linear(128, latent)
        self.fc_logvar = nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128),
            nn.ReLU(),
            nn.Linear(128, 2 * width * 16),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, 4, 4)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, 1, 4, stride=2, padding=1),
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
        return self.decoder(z)  # logits

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(logits, x, mu, logvar):
    """Reconstruction and KL divergence, in nats for each image."""
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return reconstruction, kl


def train(model, loader, optimizer, beta):
    model.train()
    total = 0.0
    for (x,) in loader:
        logits, mu, logvar = model(x)
        reconstruction, kl = loss_function(logits, x, mu, logvar)
        loss = reconstruction + beta * kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(x)
    return total / len(loader.dataset)


@torch.no_grad()
def test(model, loader):
    model.eval()
    sums = torch.zeros(3)
    for (x,) in loader:
        logits, mu, logvar = model(x)
        reconstruction, kl = loss_function(logits, x, mu, logvar)
        error = F.mse_loss(logits.sigmoid(), x)
        sums += torch.stack([reconstruction, kl, error]) * len(x)
    return (sums / len(loader.dataset)).tolist()


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    train_images = draw_digits(3000, seed=70, noise=0.03)[0].float() / 255  # in [0, 1], as the likelihood wants
    test_images = draw_digits(500, seed=71, noise=0.03)[0].float() / 255
    train_loader = DataLoader(TensorDataset(train_images), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(TensorDataset(test_images), batch_size=250)
    print(f"variance of the test pixels, the error of a constant image: {test_images.var(dim=0).mean():.4f}")

    model = VAE(args.latent)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    for epoch in range(1, args.epochs + 1):
        beta = min(1.0, epoch / args.warmup_epochs)
        train_loss = train(model, train_loader, optimizer, beta)
        reconstruction, kl, error = test(model, test_loader)
        print(
            f"====> Epoch: {epoch} beta {beta:.2f} train loss {train_loss:.3f} | "
            f"test reconstruction {reconstruction:.3f} KL {kl:.3f} squared error {error:.4f}",
            flush=True,
        )

    with torch.no_grad():
        samples = model.decode(torch.randn(16, args.latent)).sigmoid()
    for row in samples[0, 0]:
        print("".join(" .:-=+*#%@"[min(9, int(10 * value))] for value in row.tolist()))


if __name__ == "__main__":
    main()
