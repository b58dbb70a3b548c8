# Homework 4: find defective prints with a variational autoencoder that has only seen good ones
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

torch.manual_seed(0)

PIXELS = 16 * 16
HIDDEN = 200
LATENT = 12
EPOCHS = 25


def good_prints(count, seed):
    images, _ = draw_digits(count, seed=seed)
    return images.float().view(count, PIXELS) / 255


def add_defects(images, seed):
    """Inverts a square of 4 to 6 pixels somewhere in each image."""
    rng = np.random.default_rng(seed)
    images = images.clone().view(-1, 16, 16)
    for image in images:
        side = int(rng.integers(4, 7))
        y, x = rng.integers(0, 16 - side + 1, 2)
        image[y : y + side, x : x + side] = 1 - image[y : y + side, x : x + side]
    return images.view(-1, PIXELS)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.inp = nn.Linear(PIXELS, HIDDEN)
        self.mu = nn.Linear(HIDDEN, LATENT)
        self.logvar = nn.Linear(HIDDEN, LATENT)
        self.up = nn.Linear(LATENT, HIDDEN)
        self.out = nn.Linear(HIDDEN, PIXELS)

    def encode(self, x):
        h = F.relu(self.inp(x))
        return self.mu(h), self.logvar(h)

    def reparameterize(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def decode(self, z):
        h = F.relu(self.up(z))
        return self.out(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.reparameterize(mu, logvar) if self.training else mu
        return self.decode(z), mu, logvar


def bce_per_image(logits, x):
    return F.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)


def kl_per_image(mu, logvar):
    return -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1)


def train_epoch(model, loader, optimizer):
    model.train()
    bce_sum, kl_sum = 0.0, 0.0
    for (x,) in loader:
        logits, mu, logvar = model(x)
        bce, kl = bce_per_image(logits, x).mean(), kl_per_image(mu, logvar).mean()
        loss = bce + kl
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bce_sum += bce.detach() * len(x)
        kl_sum += kl.detach() * len(x)
    n = len(loader.dataset)
    return float(bce_sum) / n, float(kl_sum) / n


@torch.no_grad()
def anomaly_score(model, x):
    """The largest mean squared error of a 4 x 4 window: a defect is a place that the network cannot explain."""
    model.eval()
    logits, _, _ = model(x)
    error = (logits.sigmoid() - x).pow(2).view(-1, 1, 16, 16)
    return F.avg_pool2d(error, 4, stride=1).amax(dim=(1, 2, 3))


@torch.no_grad()
def validation_loss(model, x):
    model.eval()
    logits, mu, logvar = model(x)
    return (bce_per_image(logits, x) + kl_per_image(mu, logvar)).mean().item()


def main():
    train_x = good_prints(1500, seed=100)
    valid_x = good_prints(200, seed=101)
    test_good = good_prints(200, seed=102)
    test_bad = add_defects(good_prints(200, seed=103), seed=104)

    loader = DataLoader(TensorDataset(train_x), batch_size=50, shuffle=True)
    model = VAE()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    for epoch in range(1, EPOCHS + 1):
        bce, kl = train_epoch(model, loader, optimizer)
        if epoch % 5 == 0:
            print(f"epoch {epoch:2d}  bce {bce:7.2f}  kl {kl:6.2f}  valid {validation_loss(model, valid_x):7.2f}")

    # 5 % of good prints may be rejected; the threshold comes of validation prints, which are good ones
    threshold = torch.quantile(anomaly_score(model, valid_x), 0.95)
    scores = torch.cat([anomaly_score(model, test_good), anomaly_score(model, test_bad)])
    defective = torch.cat([torch.zeros(200), torch.ones(200)])
    rejected = scores > threshold
    print(f"AUC {roc_auc_score(defective.numpy(), scores.numpy()):.3f}")
    print(f"good prints rejected  {rejected[defective == 0].float().mean():.3f}")
    print(f"bad prints rejected   {rejected[defective == 1].float().mean():.3f}")


if __name__ == "__main__":
    main()
