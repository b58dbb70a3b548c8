"""A variational autoencoder of digits, after pytorch/examples/vae, with a Gaussian decoder."""
import argparse

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits

PIXELS = 256


class VAE(nn.Module):
    def __init__(self, latent=12, hidden=192):
        super().__init__()
        self.fc1 = nn.Linear(PIXELS, hidden)
        self.fc21 = nn.Linear(hidden, latent)
        self.fc22 = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, PIXELS)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x):
        mu, logvar = self.encode(x.flatten(1))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(recon_x, x, mu, logvar, noise=0.2):
    """Negative ELBO of a sample, in nats and but for a constant; the mean over the batch."""
    x = x.flatten(1)
    rec = 0.5 * ((recon_x - x) ** 2).sum(1).mean() / noise**2
    kld = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return rec + kld


def to_float(image):
    return image.float() / 255


def train(model, loader, optimizer, epoch, log_interval):
    model.train()
    train_loss, seen = 0.0, 0
    for batch_idx, (data, _) in enumerate(loader):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * len(data)
        seen += len(data)
        if batch_idx % log_interval == 0:
            print(f"Train Epoch: {epoch} [{seen}/{len(loader.dataset)}]\tLoss: {loss.item():.3f}")
    print(f"====> Epoch: {epoch} Average loss: {train_loss / seen:.4f}")


@torch.no_grad()
def test(model, loader):
    model.eval()
    total, error, seen = 0.0, 0.0, 0
    for data, _ in loader:
        recon, mu, logvar = model(data)
        total += loss_function(recon, data, mu, logvar).item() * len(data)
        error += F.mse_loss(recon, data.flatten(1)).item() * len(data)
        seen += len(data)
    print(f"====> Test set loss: {total / seen:.4f}, squared error {error / seen:.5f}")
    return total / seen


@torch.no_grad()
def sample(model, count, latent):
    model.eval()
    return model.decode(torch.randn(count, latent)).clamp(0, 1).view(count, 1, 16, 16)


def main():
    parser = argparse.ArgumentParser(description="VAE digits example")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--latent", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=10)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_loader = DataLoader(Digits(train=True, transform=to_float), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Digits(train=False, transform=to_float), batch_size=100, shuffle=False)
    model = VAE(args.latent)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    best_loss, best_state = float("inf"), None
    for epoch in range(1, args.epochs + 1):
        train(model, train_loader, optimizer, epoch, args.log_interval)
        test_loss = test(model, test_loader)
        if test_loss < best_loss:
            best_loss = test_loss
            best_state = {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best_state)
    images = sample(model, 16, args.latent)
    print("samples", tuple(images.shape), f"mean {images.mean():.3f}")


if __name__ == "__main__":
    main()
