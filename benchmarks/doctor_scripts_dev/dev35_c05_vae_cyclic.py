from __future__ import print_function

import argparse
import math

import torch
import torch.utils.data
from torch import nn, optim
from torch.distributions import Normal
from torch.nn import functional as F

from toydata import Digits

parser = argparse.ArgumentParser(description="VAE digits example, KL weight in cycles")
parser.add_argument("--batch-size", type=int, default=60, metavar="N")
parser.add_argument("--epochs", type=int, default=30, metavar="N")
parser.add_argument("--cycle", type=int, default=10, metavar="N", help="epochs from one KL warm-up to the next")
parser.add_argument("--latent", type=int, default=8, metavar="N")
parser.add_argument("--samples", type=int, default=32, metavar="K", help="importance samples of the test bound")
parser.add_argument("--lr", type=float, default=2e-3)
parser.add_argument("--seed", type=int, default=1, metavar="S")
args = parser.parse_args()

torch.manual_seed(args.seed)


def to_unit(image):
    return image.float() / 255


train_loader = torch.utils.data.DataLoader(
    Digits(train=True, transform=to_unit), batch_size=args.batch_size, shuffle=True
)
test_loader = torch.utils.data.DataLoader(Digits(train=False, transform=to_unit), batch_size=100, shuffle=False)


class VAE(nn.Module):
    def __init__(self, latent):
        super(VAE, self).__init__()
        self.fc1 = nn.Linear(256, 128)
        self.fc_mu = nn.Linear(128, latent)
        self.fc_logvar = nn.Linear(128, latent)
        self.fc3 = nn.Linear(latent, 128)
        self.fc4 = nn.Linear(128, 256)

    def encode(self, x):
        h = F.relu(self.fc1((x - 0.15) / 0.3))
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(logvar)

    def decode(self, z):
        return self.fc4(F.relu(self.fc3(z)))

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def kl_weight(epoch):
    """0.2, 0.4, ... 1 in the first half of each cycle, 1 in the second."""
    position = (epoch - 1) % args.cycle
    return min(1.0, (position + 1) / (0.5 * args.cycle))


def loss_terms(logits, x, mu, logvar):
    reconstruction = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1).mean()
    return reconstruction, kl


def importance_bound(model, x, samples):
    """log p(x) from below, by importance sampling from q(z|x) (Burda et al., 2016)."""
    mu, logvar = model.encode(x)
    q = Normal(mu, torch.exp(0.5 * logvar))
    z = q.sample((samples,))
    logits = model.decode(z)
    log_x = -F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none").sum(-1)
    log_w = log_x + Normal(0.0, 1.0).log_prob(z).sum(-1) - q.log_prob(z).sum(-1)
    return torch.logsumexp(log_w, dim=0) - math.log(samples)


model = VAE(args.latent)
optimizer = optim.Adam(model.parameters(), lr=args.lr)


def train(epoch):
    model.train()
    beta = kl_weight(epoch)
    total_reconstruction, total_kl = 0.0, 0.0
    for data, _ in train_loader:
        x = data.view(len(data), -1)
        optimizer.zero_grad()
        logits, mu, logvar = model(x)
        reconstruction, kl = loss_terms(logits, x, mu, logvar)
        loss = reconstruction + beta * kl
        loss.backward()
        optimizer.step()
        total_reconstruction += reconstruction.item() * len(x)
        total_kl += kl.item() * len(x)
    n = len(train_loader.dataset)
    print(
        "====> Epoch: {} beta {:.1f} reconstruction: {:.2f} KL: {:.2f}".format(
            epoch, beta, total_reconstruction / n, total_kl / n
        )
    )


def test():
    model.eval()
    mean_image = train_loader.dataset.data.float().mean(0).view(1, -1) / 255
    bound, squared, squared_of_mean = 0.0, 0.0, 0.0
    with torch.no_grad():
        for data, _ in test_loader:
            x = data.view(len(data), -1)
            bound += importance_bound(model, x, args.samples).sum().item()
            mu, _ = model.encode(x)
            squared += (torch.sigmoid(model.decode(mu)) - x).pow(2).sum().item()
            squared_of_mean += (mean_image - x).pow(2).sum().item()
    n = len(test_loader.dataset)
    print(
        "====> Test log p(x) > {:.2f}  squared error {:.3f} (mean image: {:.3f})".format(
            bound / n, squared / n, squared_of_mean / n
        )
    )


if __name__ == "__main__":
    for epoch in range(1, args.epochs + 1):
        train(epoch)
        if epoch % args.cycle == 0:
            test()
    with torch.no_grad():
        drawn = torch.sigmoid(model.decode(torch.randn(64, args.latent)))
    print("brightness of drawn digits: {:.3f}".format(drawn.mean().item()))
