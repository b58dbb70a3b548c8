"""A convolutional variational autoencoder of digits; the weight of the KL term grows over the first epochs."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from toydata import Digits

LATENT = 12
EPOCHS = 20
WARMUP_EPOCHS = 5


class VAE(nn.Module):
    def __init__(self, latent=LATENT):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, stride=2, padding=1),  # 8 x 8
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),  # 4 x 4
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.ReLU(),
        )
        self.fc_mu = nn.Linear(128, latent)
        self.fc_logvar = nn.Linear(128, latent)
        self.decoder = nn.Sequential(
            nn.Linear(latent, 128),
            nn.ReLU(),
            nn.Linear(128, 64 * 4 * 4),
            nn.ReLU(),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),  # 8 x 8
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 4, stride=2, padding=1),  # 16 x 16, logits
        )

    def encode(self, x):
        h = self.encoder(x)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def decode(self, z):
        return self.decoder(z)

    def forward(self, x):
        mu, logvar = self.encode(x)
        return self.decode(self.reparameterize(mu, logvar)), mu, logvar


def loss_function(logits, x, mu, logvar):
    """Both terms summed over pixels and dimensions, and a mean over the images."""
    bce = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return bce, kld


def train(model, loader, optimizer, epoch):
    model.train()
    beta = min(1.0, epoch / WARMUP_EPOCHS)
    sums = torch.zeros(2)
    for x, _ in loader:
        optimizer.zero_grad()
        bce, kld = loss_function(*pair(model, x))
        (bce + beta * kld).backward()
        optimizer.step()
        sums += torch.stack([bce, kld]).detach() * len(x)
    return beta, *(sums / len(loader.dataset)).tolist()


def pair(model, x):
    logits, mu, logvar = model(x)
    return logits, x, mu, logvar


@torch.no_grad()
def test(model, loader, mean_image):
    """The share of the variance of the pixels that the reconstruction explains, besides the two terms."""
    model.eval()
    error = spread = bce_sum = kld_sum = count = 0
    for x, _ in loader:
        logits, mu, logvar = model(x)
        bce, kld = loss_function(logits, x, mu, logvar)
        bce_sum += bce.item() * len(x)
        kld_sum += kld.item() * len(x)
        error += (torch.sigmoid(logits) - x).pow(2).sum().item()
        spread += (x - mean_image).pow(2).sum().item()
        count += len(x)
    return bce_sum / count, kld_sum / count, 1 - error / spread


def main():
    torch.manual_seed(1)
    to_unit = lambda image: image.float() / 255  # noqa: E731
    train_set = Digits(train=True, count=3200, transform=to_unit)
    test_set = Digits(train=False, count=500, transform=to_unit)
    mean_image = train_set.data.float().mean(0) / 255
    train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
    test_loader = DataLoader(test_set, batch_size=125)

    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, EPOCHS + 1):
        beta, bce, kld = train(model, train_loader, optimizer, epoch)
        test_bce, test_kld, explained = test(model, test_loader, mean_image)
        print(
            f"epoch {epoch:2d}  beta {beta:.1f}  train {bce:.2f} + {kld:.2f}  test {test_bce:.2f} + {test_kld:.2f}  "
            f"explained {explained:.3f}"
        )

    with torch.no_grad():
        sample = torch.sigmoid(model.decode(torch.randn(1, LATENT)))[0, 0]
    for row in sample:
        print("".join(" .:*#"[min(4, int(value * 5))] for value in row.tolist()))


if __name__ == "__main__":
    main()
