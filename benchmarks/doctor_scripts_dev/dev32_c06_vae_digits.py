"""Variational autoencoder of digits with a warm-up of the KL term."""

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits

EPOCHS = 25
WARMUP = 8
LATENT = 12


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(256, 256)
        self.fc21 = nn.Linear(256, LATENT)
        self.fc22 = nn.Linear(256, LATENT)
        self.fc3 = nn.Linear(LATENT, 256)
        self.fc4 = nn.Linear(256, 256)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x):
        mu, logvar = self.encode(x.flatten(1))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def parts(logits, x, mu, logvar):
    """Reconstruction and KL divergence, in nats, summed over pixels and the batch."""
    reconstruction = F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return reconstruction, kl


def train(epoch, model, loader, optimizer):
    model.train()
    beta = min(1.0, epoch / WARMUP)
    train_loss = 0
    for data, _ in loader:
        optimizer.zero_grad()
        logits, mu, logvar = model(data)
        reconstruction, kl = parts(logits, data, mu, logvar)
        loss = (reconstruction + beta * kl) / len(data)
        loss.backward()
        train_loss += loss.item() * len(data)
        optimizer.step()
    return train_loss / len(loader.dataset)


def test(model, loader):
    model.eval()
    total, squared = 0.0, 0.0
    with torch.no_grad():
        for data, _ in loader:
            logits, mu, logvar = model(data)
            total += sum(part.item() for part in parts(logits, data, mu, logvar))
            squared += (logits.sigmoid() - data.flatten(1)).pow(2).mean(1).sum().item()
    return total / len(loader.dataset), squared / len(loader.dataset)


if __name__ == "__main__":
    torch.manual_seed(1)
    scale = lambda image: image.float() / 255
    train_loader = DataLoader(Digits(True, 2400, scale, noise=0.03), batch_size=48, shuffle=True)
    test_loader = DataLoader(Digits(False, 400, scale, noise=0.03), batch_size=200)
    model = VAE()
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, EPOCHS + 1):
        train_loss = train(epoch, model, train_loader, optimizer)
        nats, mse = test(model, test_loader)
        print(f"====> Epoch: {epoch} train {train_loss:.2f} test {nats:.2f} nats, pixel mse {mse:.4f}")
    with torch.no_grad():
        samples = model.decode(torch.randn(16, LATENT)).sigmoid().view(16, 16, 16)
    print("share of ink in samples", round((samples > 0.5).float().mean().item(), 3))
