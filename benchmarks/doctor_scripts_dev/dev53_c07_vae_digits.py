"""A variational autoencoder of digits, after pytorch/examples/vae."""

import argparse
import io

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits


def to_tensor(image):
    return image.float() / 255


class VAE(nn.Module):
    def __init__(self, n_pixel=256, n_hidden=128, n_latent=10):
        super().__init__()
        self.n_pixel, self.n_latent = n_pixel, n_latent
        self.fc1 = nn.Linear(n_pixel, n_hidden)
        self.fc21 = nn.Linear(n_hidden, n_latent)
        self.fc22 = nn.Linear(n_hidden, n_latent)
        self.fc3 = nn.Linear(n_latent, n_hidden)
        self.fc4 = nn.Linear(n_hidden, n_pixel)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return self.fc4(h3)

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, self.n_pixel))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


def loss_function(logits, x, mu, logvar, beta=1.0):
    """Negative evidence lower bound in nats, a mean over images, and its two parts."""
    x = x.view(len(x), -1)
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce + beta * kld, bce, kld


def train(epoch, model, loader, optimizer, args, device):
    model.train()
    beta = args.beta
    sums = torch.zeros(3)
    for data, _ in loader:
        data = data.to(device)
        optimizer.zero_grad()
        logits, mu, logvar = model(data)
        loss, bce, kld = loss_function(logits, data, mu, logvar, beta)
        loss.backward()
        optimizer.step()
        sums += torch.stack([loss, bce, kld]).detach().cpu() * len(data)
    loss, bce, kld = (sums / len(loader.dataset)).tolist()
    print(f"====> Epoch: {epoch} loss: {loss:.3f} (reconstruction {bce:.3f}, divergence {kld:.3f}, beta {beta:.2f})")


@torch.no_grad()
def test(model, loader, device):
    """The bound itself, with a weight of 1 on both parts."""
    model.eval()
    total, squared = 0.0, 0.0
    for data, _ in loader:
        data = data.to(device)
        logits, mu, logvar = model(data)
        loss, _, _ = loss_function(logits, data, mu, logvar)
        total += loss.item() * len(data)
        squared += F.mse_loss(torch.sigmoid(logits), data.view(len(data), -1)).item() * len(data)
    n = len(loader.dataset)
    print(f"====> Test set loss: {total / n:.3f}, squared error {squared / n:.4f}")
    return total / n


@torch.no_grad()
def show_sample(model, device):
    model.eval()
    image = torch.sigmoid(model.decode(torch.randn(1, model.n_latent, device=device))).view(16, 16)
    for row in image.tolist():
        print("".join(" .:*#"[min(4, int(5 * value))] for value in row))


def main():
    parser = argparse.ArgumentParser(description="VAE digits example")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_set = Digits(train=True, count=1800, transform=to_tensor, noise=0.05, shift=1)
    test_set = Digits(train=False, transform=to_tensor, noise=0.05, shift=1)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=100)

    model = VAE().to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    checkpoint, best = io.BytesIO(), float("inf")
    for epoch in range(1, args.epochs + 1):
        train(epoch, model, train_loader, optimizer, args, device)
        test_loss = test(model, test_loader, device)
        if test_loss < best:
            best = test_loss
            checkpoint = io.BytesIO()
            torch.save(model.state_dict(), checkpoint)

    checkpoint.seek(0)
    model.load_state_dict(torch.load(checkpoint))
    print(f"best bound: {best:.3f}")
    show_sample(model, device)


if __name__ == "__main__":
    main()
