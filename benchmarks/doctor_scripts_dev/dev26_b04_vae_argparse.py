from __future__ import print_function

import argparse

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

from toydata import Digits


class VAE(nn.Module):
    def __init__(self, pixels=256, hidden=200, latent=12):
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
        """Logits of the pixels."""
        h3 = F.relu(self.fc3(z))
        return self.fc4(h3)

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, self.pixels))
        z = self.reparameterize(mu, logvar) if self.training else mu
        return self.decode(z), mu, logvar


def loss_parts(logits, x, mu, logvar):
    """Reconstruction and KL divergence, both summed over all elements and the batch."""
    bce = F.binary_cross_entropy_with_logits(logits, x.view(logits.shape), reduction="sum")
    # see Appendix B of Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce, kld


def train(args, model, loader, optimizer, epoch):
    model.train()
    train_loss = 0
    for batch_idx, (x, _) in enumerate(loader):
        optimizer.zero_grad()
        logits, mu, logvar = model(x)
        bce, kld = loss_parts(logits, x, mu, logvar)
        loss = (bce + kld) / len(x)
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * len(x)
        if args.log_interval and batch_idx % args.log_interval == 0:
            print("  [{}/{}] loss {:.3f}".format(batch_idx, len(loader), loss.item()))
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(loader.dataset)))


def test(model, loader):
    model.eval()
    bce_sum, kld_sum, squared = 0.0, 0.0, 0.0
    with torch.no_grad():
        for x, _ in loader:
            logits, mu, logvar = model(x)
            bce, kld = loss_parts(logits, x, mu, logvar)
            bce_sum += bce.item()
            kld_sum += kld.item()
            squared += ((torch.sigmoid(logits) - x.view(logits.shape)) ** 2).sum().item()
    count = len(loader.dataset)
    print(
        "====> Test set: BCE {:.2f}  KLD {:.2f}  reconstruction MSE {:.4f}".format(
            bce_sum / count, kld_sum / count, squared / (count * model.pixels)
        )
    )


def main():
    parser = argparse.ArgumentParser(description="VAE digits example")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=70)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--train-size", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--log-interval", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)

    def to_unit(image):
        return image.float() / 255

    train_loader = torch.utils.data.DataLoader(
        Digits(train=True, count=args.train_size, transform=to_unit), batch_size=args.batch_size, shuffle=True
    )
    test_loader = torch.utils.data.DataLoader(
        Digits(train=False, count=500, transform=to_unit), batch_size=250, shuffle=False
    )

    model = VAE()
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        train(args, model, train_loader, optimizer, epoch)
        test(model, test_loader)


if __name__ == "__main__":
    main()
