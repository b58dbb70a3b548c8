"""Variational autoencoder of small digits, after the basic example: Bernoulli pixels, Gaussian code."""

from __future__ import print_function

import argparse
import os
import tempfile

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

from toydata import Digits

parser = argparse.ArgumentParser(description="VAE digits example")
parser.add_argument("--batch-size", type=int, default=64, metavar="N")
parser.add_argument("--epochs", type=int, default=60, metavar="N")
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--latent", type=int, default=8)
parser.add_argument("--seed", type=int, default=1, metavar="S")
parser.add_argument("--log-interval", type=int, default=10, metavar="N", help="epochs between lines")
args = parser.parse_args()
torch.manual_seed(args.seed)


def to_tensor(image):
    return image.float().div(255)


train_set = Digits(train=True, count=2000, transform=to_tensor, shift=1, noise=0.05)
test_set = Digits(train=False, count=400, transform=to_tensor, shift=1, noise=0.05)
train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(test_set, batch_size=args.batch_size, shuffle=False)


class VAE(nn.Module):
    def __init__(self, pixels=256, hidden=160, latent=8):
        super(VAE, self).__init__()
        self.pixels = pixels
        self.fc1 = nn.Linear(pixels, hidden)
        self.fc21 = nn.Linear(hidden, latent)
        self.fc22 = nn.Linear(hidden, latent)
        self.fc3 = nn.Linear(latent, hidden)
        self.fc4 = nn.Linear(hidden, pixels)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return torch.sigmoid(self.fc4(h3))

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, self.pixels))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE(latent=args.latent)
optimizer = optim.Adam(model.parameters(), lr=args.lr)


def loss_function(recon_x, x, mu, logvar):
    """Reconstruction and KL divergence, summed over elements and batch."""
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 256), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def train(epoch):
    model.train()
    train_loss = 0
    for batch_idx, (data, _) in enumerate(train_loader):
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
    if epoch % args.log_interval == 0:
        print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(train_loader.dataset)))


def test(epoch):
    """The loss on unseen digits, and how much of their variance the reconstruction explains."""
    model.eval()
    test_loss, squared, variance = 0, 0.0, 0.0
    mean = torch.stack([image for image, _ in train_set]).mean(0).view(1, -1)
    with torch.no_grad():
        for data, _ in test_loader:
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
            squared += (model.decode(mu) - data.view(-1, 256)).pow(2).sum().item()
            variance += (data.view(-1, 256) - mean).pow(2).sum().item()
    print("====> Test set loss: {:.4f}, variance explained: {:.3f}".format(
        test_loss / len(test_loader.dataset), 1 - squared / variance))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as results:
        for epoch in range(1, args.epochs + 1):
            train(epoch)
            if epoch % args.log_interval == 0:
                test(epoch)
                with torch.no_grad():
                    sample = model.decode(torch.randn(64, args.latent)).view(64, 1, 16, 16)
                torch.save(sample, os.path.join(results, "sample_{}.pt".format(epoch)))
        torch.save(model.state_dict(), os.path.join(results, "vae.pt"))
