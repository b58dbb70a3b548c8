from __future__ import print_function

import argparse
import os
import tempfile

import torch
import torch.utils.data
from PIL import Image
from torch import nn, optim
from torch.nn import functional as F

from toydata import Digits

parser = argparse.ArgumentParser(description="VAE digits example")
parser.add_argument("--batch-size", type=int, default=64, metavar="N", help="input batch size for training")
parser.add_argument("--epochs", type=int, default=25, metavar="N", help="number of epochs to train")
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--latent", type=int, default=12)
parser.add_argument("--no-accel", action="store_true", help="disables accelerator training")
parser.add_argument("--seed", type=int, default=1, metavar="S", help="random seed")
parser.add_argument("--log-interval", type=int, default=20, metavar="N", help="batches between log lines")


def transform(image):
    x = image.float().div(255)
    return x


class VAE(nn.Module):
    def __init__(self, latent=12, hidden=200, pixels=256):
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


# Reconstruction + KL divergence losses summed over all elements and batch
def loss_function(recon_x, x, mu, logvar, beta=1.0):
    BCE = F.binary_cross_entropy(recon_x, x.view(-1, 256), reduction="sum")
    KLD = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return BCE + beta * KLD


def train(args, model, device, train_loader, optimizer, epoch):
    model.train()
    train_loss = 0
    beta = 1.0
    for batch_idx, (data, _) in enumerate(train_loader):
        data = data.to(device)
        optimizer.zero_grad()
        recon_batch, mu, logvar = model(data)
        loss = loss_function(recon_batch, data, mu, logvar, beta)
        loss.backward()
        train_loss += loss.item()
        optimizer.step()
        if batch_idx % args.log_interval == 0 and epoch % 10 == 1:
            print(
                "Train Epoch: {} [{}/{} ({:.0f}%)]\tLoss: {:.6f}".format(
                    epoch,
                    batch_idx * len(data),
                    len(train_loader.dataset),
                    100.0 * batch_idx / len(train_loader),
                    loss.item() / len(data),
                )
            )
    if epoch % 5 == 0:
        print("====> Epoch: {} Average loss: {:.4f}".format(epoch, train_loss / len(train_loader.dataset)))


def test(args, model, device, test_loader, epoch, results):
    model.eval()
    test_loss, squared, count = 0, 0.0, 0
    with torch.no_grad():
        for i, (data, _) in enumerate(test_loader):
            data = data.to(device)
            recon_batch, mu, logvar = model(data)
            test_loss += loss_function(recon_batch, data, mu, logvar).item()
            squared += (recon_batch - data.view(-1, 256)).pow(2).sum().item()
            count += data.numel()
            if i == 0 and epoch == args.epochs:
                n = min(data.size(0), 8)
                comparison = torch.cat([data[:n].view(n, 16, 16), recon_batch[:n].view(n, 16, 16)])
                save_grid(comparison, os.path.join(results, "reconstruction_%d.png" % epoch), n)
    test_loss /= len(test_loader.dataset)
    if epoch % 5 == 0:
        print("====> Test set loss: {:.4f}  squared error of a pixel: {:.5f}".format(test_loss, squared / count))
    return test_loss, squared / count


def save_grid(images, path, columns):
    rows = [torch.cat(list(images[i : i + columns]), dim=1) for i in range(0, len(images), columns)]
    sheet = torch.cat(rows, dim=0).clamp(0, 1).mul(255).to(torch.uint8).cpu().numpy()
    Image.fromarray(sheet).resize((sheet.shape[1] * 4, sheet.shape[0] * 4)).save(path)


def main():
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    use_accel = not args.no_accel and torch.cuda.is_available()
    device = torch.device("cuda" if use_accel else "cpu")
    results = tempfile.mkdtemp(prefix="vae_")

    train_set = Digits(train=True, count=2400, transform=transform)
    test_set = Digits(train=False, count=400, transform=transform)
    train_loader = torch.utils.data.DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    test_loader = torch.utils.data.DataLoader(test_set, batch_size=200, shuffle=False)

    model = VAE(latent=args.latent).to(device)
    optimizer = optim.Adam(model.parameters(), lr=args.lr)

    pixels = torch.stack([test_set[i][0] for i in range(len(test_set))])
    print("variance of a pixel (the mean image's error): {:.5f}".format(pixels.var(dim=0).mean().item()))
    for epoch in range(1, args.epochs + 1):
        train(args, model, device, train_loader, optimizer, epoch)
        loss, error = test(args, model, device, test_loader, epoch, results)
    with torch.no_grad():
        sample = torch.randn(32, args.latent).to(device)
        sample = model.decode(sample).cpu()
        save_grid(sample.view(32, 16, 16), os.path.join(results, "sample.png"), 8)
    torch.save(model.state_dict(), os.path.join(results, "vae.pt"))
    print("final test loss {:.2f}, squared error of a pixel {:.5f}".format(loss, error))


if __name__ == "__main__":
    main()
