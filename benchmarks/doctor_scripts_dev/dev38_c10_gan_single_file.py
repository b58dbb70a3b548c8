"""A small DCGAN for digits in a single file. Reports the Frechet distance to test digits in a PCA space."""
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim
from sklearn.decomposition import PCA
from torch.utils.data import DataLoader

from toydata import Digits


@dataclass
class Args:
    seed: int = 5
    """seed of the experiment"""
    epochs: int = 30
    """passes over the digits"""
    batch_size: int = 60
    latent_dim: int = 32
    learning_rate: float = 5e-4
    beta1: float = 0.5
    beta2: float = 0.999
    log_every: int = 5
    components: int = 16
    """dimensions of the space in which distributions are compared"""


class Generator(nn.Module):
    def __init__(self, latent_dim):
        super().__init__()
        self.project = nn.Sequential(nn.Linear(latent_dim, 32 * 4 * 4, bias=False), nn.BatchNorm1d(32 * 4 * 4), nn.ReLU())
        self.net = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(32, 24, 3, padding=1, bias=False), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(24, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 1, 3, padding=1), nn.Tanh(),
        )

    def forward(self, z):
        return self.net(self.project(z).view(-1, 32, 4, 4))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 24, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(24, 48, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
            nn.Flatten(), nn.Linear(48 * 4 * 4, 1),
        )

    def forward(self, images):
        return self.net(images)


def init_weights(m):
    if isinstance(m, (nn.Conv2d, nn.Linear)):
        nn.init.normal_(m.weight, 0.0, 0.05)
        if m.bias is not None:
            nn.init.zeros_(m.bias)


def frechet(a, b):
    """Of two clouds of points, taken as normal distributions."""
    mean_a, mean_b, cov_a, cov_b = a.mean(0), b.mean(0), np.cov(a.T), np.cov(b.T)
    roots = np.sqrt(np.linalg.eigvals(cov_a @ cov_b).real.clip(0))
    return float(((mean_a - mean_b) ** 2).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


@torch.no_grad()
def evaluate(generator, noise, pca, real_points):
    generator.eval()
    points = pca.transform(generator(noise).flatten(1).numpy())
    generator.train()
    return frechet(points, real_points)


if __name__ == "__main__":
    args = Args()
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)

    dataset = Digits(train=True, transform=lambda image: image.float() / 127.5 - 1)
    loader = DataLoader(dataset, batch_size=args.batch_size, shuffle=True, drop_last=True)
    train_points = (dataset.data.float() / 127.5 - 1).flatten(1).numpy()
    test_points = (Digits(train=False).data.float() / 127.5 - 1).flatten(1).numpy()
    pca = PCA(args.components, random_state=0).fit(train_points)
    real_points = pca.transform(test_points)
    fixed_noise = torch.randn(300, args.latent_dim)

    generator, discriminator = Generator(args.latent_dim), Discriminator()
    generator.apply(init_weights)
    discriminator.apply(init_weights)
    g_optimizer = optim.Adam(generator.parameters(), lr=args.learning_rate, betas=(args.beta1, args.beta2))
    d_optimizer = optim.Adam(discriminator.parameters(), lr=args.learning_rate, betas=(args.beta1, args.beta2))
    print(f"before: distance {evaluate(generator, fixed_noise, pca, real_points):.2f}")

    start_time, global_step = time.time(), 0
    for epoch in range(1, args.epochs + 1):
        d_losses, g_losses = [], []
        for real, _ in loader:
            global_step += 1
            fake = generator(torch.randn(len(real), args.latent_dim))

            # discriminator
            d_real, d_fake = discriminator(real), discriminator(fake.detach())
            d_loss = F.binary_cross_entropy_with_logits(d_real, torch.ones_like(d_real))
            d_loss = d_loss + F.binary_cross_entropy_with_logits(d_fake, torch.zeros_like(d_fake))
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # generator
            g_fake = discriminator(fake)
            g_loss = F.binary_cross_entropy_with_logits(g_fake, torch.ones_like(g_fake))
            g_optimizer.zero_grad()
            g_loss.backward()
            g_optimizer.step()

            d_losses.append(d_loss.detach())
            g_losses.append(g_loss.detach())
        if epoch % args.log_every == 0:
            distance = evaluate(generator, fixed_noise, pca, real_points)
            print(f"epoch {epoch}: d_loss {torch.stack(d_losses).mean().item():.3f} "
                  f"g_loss {torch.stack(g_losses).mean().item():.3f} distance {distance:.2f} "
                  f"SPS {int(global_step / (time.time() - start_time))}")
