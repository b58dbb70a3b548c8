from __future__ import print_function

import argparse

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F
from toydata import draw_digits

parser = argparse.ArgumentParser(description="VAE on drawn digits")
parser.add_argument("--batch-size", type=int, default=64, metavar="N")
parser.add_argument("--epochs", type=int, default=16, metavar="N")
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--latent", type=int, default=8)
parser.add_argument("--seed", type=int, default=1, metavar="S")
parser.add_argument("--log-interval", type=int, default=20, metavar="N")
args = parser.parse_args()

torch.manual_seed(args.seed)
SIZE = 16
DIM = SIZE * SIZE


def to_float(images):
    images = images / 255
    return images.float().unsqueeze(1)


train_images, train_labels = draw_digits(2400, size=SIZE, seed=0, noise=0.05, shift=1)
test_images, test_labels = draw_digits(400, size=SIZE, seed=1, noise=0.05, shift=1)
train_set = torch.utils.data.TensorDataset(to_float(train_images), train_labels)
test_set = torch.utils.data.TensorDataset(to_float(test_images), test_labels)
train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(test_set, batch_size=args.batch_size, shuffle=False)


class VAE(nn.Module):
    def __init__(self, latent):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(DIM, 200)
        self.fc21 = nn.Linear(200, latent)
        self.fc22 = nn.Linear(200, latent)
        self.fc3 = nn.Linear(latent, 200)
        self.fc4 = nn.Linear(200, DIM)

    def encode(self, x):
        h1 = F.relu(self.fc1(x))
        return self.fc21(h1), self.fc22(h1)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        z = mu + eps * std
        return z

    def decode(self, z):
        h3 = F.relu(self.fc3(z))
        return self.fc4(h3)

    def forward(self, x):
        mu, logvar = self.encode(x.view(-1, DIM))
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE(args.latent)
optimizer = optim.Adam(model.parameters(), lr=args.lr)


# Reconstruction + KL divergence losses summed over all elements and batch
def loss_function(recon_x, x, mu, logvar):
    BCE = F.binary_cross_entropy_with_logits(recon_x, x.view(-1, DIM), reduction="sum")
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
    total = 0
    average = test_set.tensors[0].mean(dim=0)
    with torch.no_grad():
        for data, _ in test_loader:
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
            squared += (recon_batch.sigmoid() - data.view(-1, DIM)).pow(2).sum().item()
            total += (data - average).pow(2).sum().item()
    test_loss /= len(test_loader.dataset)
    explained = 1 - squared / total
    print("====> Epoch: {} Test loss: {:.4f} explained variance: {:.3f}".format(epoch, test_loss, explained))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        test(epoch)
    with torch.no_grad():
        sample = model.decode(torch.randn(4, args.latent)).sigmoid().view(4, SIZE, SIZE)
    for row in sample[0]:
        print("".join(" .:*#"[min(int(value * 5), 4)] for value in row.tolist()))
