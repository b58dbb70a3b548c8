from __future__ import print_function

import argparse

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

from toydata import Digits

parser = argparse.ArgumentParser(description="VAE Digits Example")
parser.add_argument("--batch-size", type=int, default=64)
parser.add_argument("--epochs", type=int, default=25)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--log-interval", type=int, default=10)
args = parser.parse_args()
torch.manual_seed(args.seed)
device = "cpu"


def to_tensor(image):
    return image.float().div(255)


train_loader = torch.utils.data.DataLoader(
    Digits(train=True, transform=to_tensor, noise=0.03), batch_size=args.batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(
    Digits(train=False, transform=to_tensor, noise=0.03), batch_size=100, shuffle=False)


class VAE(nn.Module):
    def __init__(self):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(256, 200)
        self.fc21 = nn.Linear(200, 12)
        self.fc22 = nn.Linear(200, 12)
        self.fc3 = nn.Linear(12, 200)
        self.fc4 = nn.Linear(200, 256)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return self.fc4(h3)

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, 256))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE().to(device)
optimizer = optim.Adam(model.parameters(), lr=2e-3)


# Reconstruction + KL divergence losses summed over all elements and batch
def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy_with_logits(recon_x, x.view(-1, 256), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + KLD


def train(epoch):
    model.train()
    train_loss = 0
    for batch_idx, (data, _) in enumerate(train_loader):
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        if batch_idx % args.log_interval == 0:
            print("Train Epoch: {} [{}/{}]\tLoss: {:.6f}".format(
                epoch, batch_idx * len(data), len(train_loader.dataset), loss.item() / len(data)))
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(train_loader.dataset)))


def test(epoch):
    model.eval()
    test_loss = squared = spread = 0
    with torch.no_grad():
        for data, _ in test_loader:
            recon, mu, logvar = model(data)
            test_loss += loss_function(recon, data, mu, logvar).item()
            squared += (recon.sigmoid() - data.view(-1, 256)).pow(2).mean(1).sum().item()
            spread += (data - data.mean(0)).pow(2).flatten(1).mean(1).sum().item()
    n = len(test_loader.dataset)
    print("====> Test set loss: {:.4f}  explained: {:.3f}".format(test_loss / n, 1 - squared / spread))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        test(epoch)
    with torch.no_grad():
        sample = model.decode(torch.randn(16, 12)).sigmoid().view(16, 16, 16)
    print("samples: mean {:.3f}, spread between samples {:.3f}".format(sample.mean().item(), sample.std(0).mean().item()))
