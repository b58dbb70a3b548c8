"""A variational autoencoder of digits, after the VAE of pytorch/examples."""

import argparse
import copy

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits


class VAE(nn.Module):
    def __init__(self, pixels=256, hidden=128, latent=12):
        super().__init__()
        self.pixels, self.latent = pixels, latent
        self.encoder = nn.Sequential(nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.fc_mu = nn.Linear(hidden, latent)
        self.fc_logvar = nn.Linear(hidden, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, pixels)
        )

    def encode(self, x):
        h = self.encoder(x.flatten(1))
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return mu + torch.randn_like(std) * std

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decoder(z), mu, logvar


# Reconstruction + KL divergence, summed over pixels and latents, mean over the batch
def loss_function(recon_logits, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(recon_logits, x.flatten(1), reduction="none").sum(1)
    # see Appendix B from VAE paper: 0.5 * sum(1 + log(sigma^2) - mu^2 - sigma^2)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1)
    return (bce + kld).mean()


def train(model, loader, optimizer, device):
    model.train()
    total, count = 0.0, 0
    for data, _ in loader:
        data = data.to(device)
        optimizer.zero_grad()
        recon, mu, logvar = model(data)
        loss = loss_function(recon, data, mu, logvar)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(data)
        count += len(data)
    return total / count


@torch.no_grad()
def test(model, loader, device):
    model.eval()
    total, count = 0.0, 0
    for data, _ in loader:
        data = data.to(device)
        recon, mu, logvar = model(data)
        total += loss_function(recon, data, mu, logvar).item() * len(data)
        count += len(data)
    return total / count


@torch.no_grad()
def show_sample(model, device, seed=0):
    """A generated digit, in characters."""
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(1, model.latent, generator=generator).to(device)
    image = torch.sigmoid(model.decoder(z)).view(16, 16).cpu()
    for row in image.tolist():
        print("".join(" .:#"[min(3, int(4 * value))] for value in row))


def to_float(image):
    return image.float() / 255


def parse_args():
    parser = argparse.ArgumentParser(description="VAE example")
    parser.add_argument("--batch-size", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=1)
    return parser.parse_args()


def main():
    args = parse_args()
    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    train_loader = DataLoader(
        Digits(train=True, count=1600, transform=to_float), batch_size=args.batch_size, shuffle=True
    )
    test_loader = DataLoader(Digits(train=False, transform=to_float), batch_size=100)

    model = VAE().to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    best, best_state = float("inf"), None
    for epoch in range(1, args.epochs + 1):
        train_loss = train(model, train_loader, optimizer, device)
        test_loss = test(model, test_loader, device)
        print(f"====> Epoch: {epoch} Average loss: {train_loss:.3f}  Test set loss: {test_loss:.3f}")
        if test_loss < best:
            best, best_state = test_loss, copy.deepcopy(model.state_dict())

    model.load_state_dict(best_state)
    print(f"best: {best:.3f}")
    for index in range(args.samples):
        show_sample(model, device, seed=index)


if __name__ == "__main__":
    main()
