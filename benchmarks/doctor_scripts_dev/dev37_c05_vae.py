import argparse
import os
import tempfile

import torch
from torch import nn, optim
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from toydata import Digits

parser = argparse.ArgumentParser(description='VAE of digits')
parser.add_argument('--batch-size', type=int, default=100)
parser.add_argument('--epochs', type=int, default=40)
parser.add_argument('--latent', type=int, default=16)
parser.add_argument('--seed', type=int, default=1)
args = parser.parse_args()

torch.manual_seed(args.seed)


def load(train, count):
    data = Digits(train=train, count=count).data
    return TensorDataset(data.view(count, -1).float() / 255)


train_set, test_set = load(True, 2000), load(False, 400)
train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
test_loader = DataLoader(test_set, batch_size=200, shuffle=False)


class VAE(nn.Module):
    def __init__(self, pixels=256, hidden=128, latent=16):
        super(VAE, self).__init__()
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
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar)
        return self.decode(z), mu, logvar


model = VAE(latent=args.latent)
optimizer = optim.Adam(model.parameters(), lr=2e-3)


# Reconstruction (the decoder gives logits) and KL divergence, each summed over a sample, mean over the batch
# see Appendix B from VAE paper: Kingma and Welling. Auto-Encoding Variational Bayes. ICLR, 2014
def terms(logits, x, mu, logvar):
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction='sum') / len(x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
    return bce, kld


def train(epoch):
    model.train()
    train_loss = 0
    for (x,) in train_loader:
        optimizer.zero_grad()
        logits, mu, logvar = model(x)
        bce, kld = terms(logits, x, mu, logvar)
        loss = bce + kld
        loss.backward()
        optimizer.step()
        train_loss += loss.item() * len(x)
    print('====> Epoch: {} Average loss: {:.4f}'.format(epoch, train_loss / len(train_loader.dataset)))


def test():
    model.eval()
    test_loss, squared, of_mean = 0, 0, 0
    mean_image = train_set.tensors[0].mean(0)
    with torch.no_grad():
        for (x,) in test_loader:
            logits, mu, logvar = model(x)
            bce, kld = terms(logits, x, mu, logvar)
            test_loss += (bce + kld).item() * len(x)
            squared += ((torch.sigmoid(model.decode(mu)) - x) ** 2).sum().item()
            of_mean += ((mean_image - x) ** 2).sum().item()
    count = len(test_loader.dataset)
    print('====> Test set loss: {:.4f}, squared error {:.5f} (mean image: {:.5f})'.format(
        test_loss / count, squared / count / 256, of_mean / count / 256))


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        if epoch % 10 == 0:
            test()
    with torch.no_grad():
        sample = torch.sigmoid(model.decode(torch.randn(64, args.latent)))
    torch.save(sample.view(64, 1, 16, 16), os.path.join(tempfile.mkdtemp(), 'sample.pt'))
