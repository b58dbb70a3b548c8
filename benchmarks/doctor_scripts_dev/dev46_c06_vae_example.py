from __future__ import print_function

import argparse

import torch
import torch.utils.data
from torch import nn, optim
from torch.nn import functional as F

from toydata import Digits

parser = argparse.ArgumentParser(description="VAE Digits Example")
parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="input batch size for training")
parser.add_argument("--epochs", type=int, default=22, metavar="N", help="number of epochs to train")
parser.add_argument("--warmup", type=int, default=4, metavar="N", help="epochs until the KL term counts fully")
parser.add_argument("--latent", type=int, default=12, metavar="N", help="size of the code")
parser.add_argument("--lr", type=float, default=2e-3, metavar="LR", help="learning rate")
parser.add_argument("--seed", type=int, default=1, metavar="S", help="random seed")
args = parser.parse_args()
torch.manual_seed(args.seed)


def to_tensor(image):
    return image.float() / 255


train_set = Digits(train=True, count=1600, transform=to_tensor, noise=0.05, shift=1)
test_set = Digits(train=False, count=320, transform=to_tensor, noise=0.05, shift=1)
train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
test_loader = torch.utils.data.DataLoader(test_set, batch_size=args.batch_size, shuffle=False)


class VAE(nn.Module):
    def __init__(self, latent):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(256, 200)
        self.fc21 = nn.Linear(200, latent)
        self.fc22 = nn.Linear(200, latent)
        self.fc3 = nn.Linear(latent, 200)
        self.fc4 = nn.Linear(200, 256)

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
        mu, logvar = self.encode(x.view(-1, 256))
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


model = VAE(args.latent)
optimizer = optim.Adam(model.parameters(), lr=args.lr)


# Reconstruction + KL divergence, summed over pixels and latents, averaged over the images
def loss_function(recon_logits, x, mu, logvar, beta):
    BCE = F.binary_cross_entropy_with_logits(recon_logits, x.view(-1, 256), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (BCE + beta * KLD) / x.size(0)


def train(epoch):
    model.train()
    beta = min(1.0, epoch / args.warmup)
    train_loss = 0
    for data, _ in train_loader:
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar, beta)
        loss.backward()
        train_loss += loss.item() * data.size(0)
        optimizer.step()
    print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(train_set)))


def test(epoch, mean_image):
    model.eval()
    test_loss, squared, baseline = 0, 0, 0
    with torch.no_grad():
        for data, _ in test_loader:
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar, 1.0).item() * data.size(0)
            flat = data.view(-1, 256)
            squared += (torch.sigmoid(recon_batch) - flat).pow(2).sum().item()
            baseline += (mean_image - flat).pow(2).sum().item()
    pixels = len(test_set) * 256
    print(
        "====> Test set loss: {:.4f}, squared error {:.4f} (mean image: {:.4f})".format(
            test_loss / len(test_set), squared / pixels, baseline / pixels
        )
    )


if __name__ == "__main__":
    mean_image = to_tensor(train_set.data).view(-1, 256).mean(0)
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        if epoch % 3 == 0 or epoch == args.epochs:
            test(epoch, mean_image)
    with torch.no_grad():
        sample = torch.sigmoid(model.decode(torch.randn(4, args.latent)))
        for row in sample[0].view(16, 16):
            print("".join(" .:*#"[min(int(v * 5), 4)] for v in row))
