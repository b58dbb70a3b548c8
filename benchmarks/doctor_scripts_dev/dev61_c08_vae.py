"""Variational autoencoder of digits, after the VAE of pytorch/examples."""
import argparse

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits

PIXELS = 16 * 16


class VAE(nn.Module):
    def __init__(self, hidden=200, latent=12):
        super().__init__()
        self.latent = latent
        self.fc1 = nn.Linear(PIXELS, hidden)
        self.fc21 = nn.Linear(hidden, latent)
        self.fc22 = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, PIXELS)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x):
        mu, logvar = self.encode(x.flatten(1))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def to_float(image):
    return image.float() / 255


def elbo_function(logits, x, mu, logvar):
    """The evidence lower bound (the higher the better), mean over the batch, in nats an image."""
    log_likelihood = -F.binary_cross_entropy_with_logits(logits, x.flatten(1), reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (log_likelihood - kld) / len(x)


def train(epoch, model, loader, optimizer, log_interval):
    model.train()
    total = 0.0
    for batch_idx, (data, _) in enumerate(loader):
        optimizer.zero_grad()
        logits, mu, logvar = model(data)
        elbo = elbo_function(logits, data, mu, logvar)
        loss = -elbo
        loss.backward()
        optimizer.step()
        total += elbo.item() * len(data)
        if batch_idx % log_interval == 0:
            print(f"Train Epoch: {epoch} [{batch_idx}/{len(loader)}] ELBO: {elbo.item():.3f}")
    print(f"====> Epoch: {epoch} Average ELBO: {total / len(loader.dataset):.3f}")


@torch.no_grad()
def test(epoch, model, loader):
    model.eval()
    elbo_sum, squared, count = 0.0, 0.0, 0
    for data, _ in loader:
        logits, mu, logvar = model(data)
        elbo_sum += elbo_function(logits, data, mu, logvar).item() * len(data)
        squared += F.mse_loss(logits.sigmoid(), data.flatten(1), reduction="sum").item()
        count += len(data)
    print(f"====> Test ELBO: {elbo_sum / count:.3f}, pixel MSE {squared / (count * PIXELS):.5f}")
    return elbo_sum / count


@torch.no_grad()
def sample(model, count):
    model.eval()
    z = torch.randn(count, model.latent)
    return model.decode(z).sigmoid().view(count, 1, 16, 16)


def show(image):
    shades = " .:+#"
    for row in (image[0] * (len(shades) - 1)).round().long().tolist():
        print("".join(shades[value] for value in row))


def main():
    parser = argparse.ArgumentParser(description="VAE digits example")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=20)
    args = parser.parse_args()
    torch.manual_seed(args.seed)

    train_loader = DataLoader(
        Digits(train=True, transform=to_float, noise=0.03, shift=1), batch_size=args.batch_size, shuffle=True
    )
    test_loader = DataLoader(Digits(train=False, transform=to_float, noise=0.03, shift=1), batch_size=100)
    model = VAE()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    history = []
    for epoch in range(1, args.epochs + 1):
        train(epoch, model, train_loader, optimizer, args.log_interval)
        history.append(test(epoch, model, test_loader))
    print(f"test ELBO {history[0]:.3f} -> {history[-1]:.3f}")
    show(sample(model, 1)[0])


if __name__ == "__main__":
    main()
