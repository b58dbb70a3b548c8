"""Variational autoencoder of digits: sum over pixels, mean over samples, analytic divergence, short warm-up of its weight."""
import argparse
import os
import tempfile

import torch
from PIL import Image
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

parser = argparse.ArgumentParser(description="VAE example")
parser.add_argument("--batch-size", type=int, default=100)
parser.add_argument("--epochs", type=int, default=26)
parser.add_argument("--latent", type=int, default=12)
parser.add_argument("--lr", type=float, default=3e-3)
parser.add_argument("--kl-warmup", type=int, default=3, help="epochs until the divergence has its full weight")
args = parser.parse_args()
torch.manual_seed(1)


def load(count, seed):
    images, _ = draw_digits(count, seed=seed, noise=0.02)
    return TensorDataset(images.float() / 255)


train_loader = DataLoader(load(2000, 0), batch_size=args.batch_size, shuffle=True)
test_loader = DataLoader(load(400, 1), batch_size=200)


class VAE(nn.Module):
    def __init__(self, latent):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 24, 3, 2, 1), nn.SiLU(), nn.Conv2d(24, 48, 3, 2, 1), nn.SiLU(), nn.Flatten(), nn.Linear(48 * 16, 128), nn.SiLU())
        self.mu, self.logvar = nn.Linear(128, latent), nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128), nn.SiLU(), nn.Linear(128, 48 * 16), nn.SiLU(), nn.Unflatten(1, (48, 4, 4)),
            nn.ConvTranspose2d(48, 24, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(24, 1, 4, 2, 1))

    def encode(self, x):
        h = self.encoder(x * 4 - 0.8)  # about zero mean and unit spread
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar


def terms(logits, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce, kld


model = VAE(args.latent)
optimizer = optim.Adam(model.parameters(), lr=args.lr)
scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.92)


def train(epoch):
    model.train()
    beta = min(1.0, epoch / args.kl_warmup)
    sums = torch.zeros(2)
    for (x,) in train_loader:
        optimizer.zero_grad()
        bce, kld = loss_terms(x)
        (bce + beta * kld).backward()
        optimizer.step()
        sums += torch.stack([bce.detach(), kld.detach()]) * len(x)
    scheduler.step()
    print(f"====> Epoch {epoch}: reconstruction {sums[0] / len(train_loader.dataset):.2f} divergence {sums[1] / len(train_loader.dataset):.2f}")


def loss_terms(x):
    logits, mu, logvar = model(x)
    return terms(logits, x, mu, logvar)


@torch.no_grad()
def test(epoch, folder):
    model.eval()
    total, error = 0.0, 0.0
    for (x,) in test_loader:
        logits, mu, logvar = model(x)
        total += float(sum(terms(logits, x, mu, logvar))) * len(x)
        error += F.mse_loss(torch.sigmoid(logits), x, reduction="sum").item() / x[0].numel()
    n = len(test_loader.dataset)
    print(f"====> Test loss {total / n:.2f}, mean squared error {error / n:.5f}")
    samples = torch.sigmoid(model.decoder(torch.randn(16, args.latent)))
    sheet = samples.view(4, 4, 16, 16).permute(0, 2, 1, 3).reshape(64, 64)
    Image.fromarray((sheet * 255).byte().numpy()).save(os.path.join(folder, f"sample_{epoch}.png"))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for epoch in range(1, args.epochs + 1):
            train(epoch)
            test(epoch, folder)
