# Basic VAE example (pytorch/examples), for generated digits of 16 x 16 pixels
from __future__ import print_function

import argparse

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

from toydata import Digits

parser = argparse.ArgumentParser(description="VAE digits example")
parser.add_argument("--batch-size", type=int, default=50, metavar="N", help="input batch size for training")
parser.add_argument("--epochs", type=int, default=20, metavar="N", help="number of epochs to train")
parser.add_argument("--latent", type=int, default=8, metavar="Z", help="size of the code")
parser.add_argument("--lr", type=float, default=3e-3, help="learning rate")
parser.add_argument("--gamma", type=float, default=0.9, help="factor of the learning rate from epoch to epoch")
parser.add_argument("--seed", type=int, default=1, metavar="S", help="random seed")
parser.add_argument("--log-interval", type=int, default=12, metavar="N", help="batches between two lines of the log")
args = parser.parse_args()

torch.manual_seed(args.seed)


def to_tensor(img):
    return img.float() / 255


train_loader = torch.utils.data.DataLoader(
    Digits(train=True, transform=to_tensor, noise=0.05), batch_size=args.batch_size, shuffle=True
)
test_loader = torch.utils.data.DataLoader(
    Digits(train=False, transform=to_tensor, noise=0.05), batch_size=args.batch_size, shuffle=False
)


class VAE(nn.Module):
    def __init__(self, latent):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(256, 128)
        self.fc21 = nn.Linear(128, latent)
        self.fc22 = nn.Linear(128, latent)
        self.fc3 = nn.Linear(latent, 128)
        self.fc4 = nn.Linear(128, 256)

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
        mu, logvar = self.encode(x.view(-1, 256))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE(args.latent)
optimizer = optim.Adam(model.parameters(), lr=args.lr)
scheduler = optim.lr_scheduler.ExponentialLR(optimizer, gamma=args.gamma)


# Reconstruction + KL divergence losses summed over all elements and batch
def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 256), reduction="sum")

    # see Appendix B from VAE paper: 0.5 * sum(1 + log(sigma^2) - mu^2 - sigma^2)
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
        if batch_idx % args.log_interval == 0:
            print(
                "Train Epoch: {} [{}/{}]\tLoss: {:.4f}".format(
                    epoch, batch_idx * len(data), len(train_loader.dataset), loss.item() / len(data)
                )
            )
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(train_loader.dataset)))


def test(epoch):
    model.eval()
    test_loss = 0
    squared = 0
    with torch.no_grad():
        for data, _ in test_loader:
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
            squared += (recon_batch - data.view(-1, 256)).pow(2).sum().item()
    test_loss /= len(test_loader.dataset)
    squared /= len(test_loader.dataset) * 256
    print("====> Test set loss: {:.4f}, squared error of a pixel: {:.5f}".format(test_loss, squared))


def show(picture):
    for row in picture.view(16, 16)[2:14].tolist():
        print("".join(" .:*#"[min(4, max(0, int(5 * value)))] for value in row))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        test(epoch)
        scheduler.step()
    mean_image = train_loader.dataset.data.float().mean(0) / 255
    test_images = test_loader.dataset.data.float() / 255
    print("always the mean image: {:.5f}".format((test_images - mean_image).pow(2).mean().item()))
    with torch.no_grad():
        for sample in model.decode(torch.randn(2, args.latent)):
            show(sample)
