"""Variational autoencoder of digits, after pytorch/examples/vae."""

import argparse

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits


class Drawings(Dataset):
    """Images alone, pixels between 0 and 1."""

    def __init__(self, count, seed):
        images, _ = draw_digits(count, seed=seed, noise=0.03, shift=1)
        self.images = images.float() / 255

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


class VAE(nn.Module):
    def __init__(self, pixels=256, hidden=128, latent=12):
        super().__init__()
        self.pixels, self.latent = pixels, latent
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
        return self.fc4(h3)

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, self.pixels))
        z = self.reparameterize(mu, logvar) if self.training else mu
        return self.decode(z), mu, logvar


def loss_function(logits, x, mu, logvar):
    """Negative evidence lower bound, in nats an image."""
    x = x.view(logits.shape)
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kld = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)
    return (bce + kld).mean()


def train(epoch, model, loader, optimizer, device):
    model.train()
    train_loss = torch.zeros((), device=device)
    for data in loader:
        data = data.to(device)
        optimizer.zero_grad()
        logits, mu, logvar = model(data)
        loss = loss_function(logits, data, mu, logvar)
        loss.backward()
        optimizer.step()
        train_loss += loss.detach() * len(data)
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss.item() / len(loader.dataset)))


@torch.no_grad()
def test(model, loader, device):
    model.eval()
    test_loss, squared = 0.0, 0.0
    for data in loader:
        data = data.to(device)
        logits, mu, logvar = model(data)
        test_loss += loss_function(logits, data, mu, logvar).item() * len(data)
        squared += (torch.sigmoid(logits) - data.view(logits.shape)).square().mean(1).sum().item()
    count = len(loader.dataset)
    print("====> Test set loss: {:.4f}, pixel mse {:.4f}".format(test_loss / count, squared / count))
    return test_loss / count


@torch.no_grad()
def sample(model, count, device):
    model.eval()
    z = torch.randn(count, model.latent, device=device)
    return torch.sigmoid(model.decode(z)).view(count, 16, 16)


def show(image):
    for row in image[::2].tolist():
        print("".join(" .:*#"[min(int(5 * value), 4)] for value in row))


def main():
    parser = argparse.ArgumentParser(description="VAE of digits")
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    train_loader = DataLoader(Drawings(1500, seed=0), batch_size=args.batch_size, shuffle=True)
    test_loader = DataLoader(Drawings(300, seed=1), batch_size=args.batch_size, shuffle=False)

    model = VAE().to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)
    history = []
    for epoch in range(1, args.epochs + 1):
        train(epoch, model, train_loader, optimizer, device)
        history.append(test(model, test_loader, device))
    print("best test loss {:.3f} in epoch {}".format(min(history), 1 + history.index(min(history))))
    show(sample(model, 1, device)[0])


if __name__ == "__main__":
    main()
