"""Auxiliary-classifier GAN on digits; judged by a classifier that was trained on real digits only."""
import argparse
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits


class Generator(nn.Module):
    def __init__(self, latent, width=64):
        super().__init__()
        self.embed = nn.Embedding(10, 16)
        self.project = nn.Linear(latent + 16, width * 4 * 4)
        self.net = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(True),
            nn.Upsample(scale_factor=2), nn.Conv2d(width, width // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 2), nn.ReLU(True),
            nn.Upsample(scale_factor=2), nn.Conv2d(width // 2, width // 4, 3, padding=1, bias=False),
            nn.BatchNorm2d(width // 4), nn.ReLU(True),
            nn.Conv2d(width // 4, 1, 3, padding=1), nn.Tanh(),
        )

    def forward(self, noise, labels):
        hidden = self.project(torch.cat([noise, self.embed(labels)], dim=1))
        return self.net(hidden.view(len(noise), -1, 4, 4))


class Discriminator(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.features = nn.Sequential(
            spectral_norm(nn.Conv2d(1, width, 3, padding=1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2),
            spectral_norm(nn.Conv2d(width, 2 * width, 4, stride=2, padding=1)), nn.LeakyReLU(0.2),
            nn.Flatten(),
        )
        self.real = spectral_norm(nn.Linear(2 * width * 16, 1))
        self.kind = nn.Linear(2 * width * 16, 10)

    def forward(self, images):
        features = self.features(images)
        return self.real(features).squeeze(1), self.kind(features)


def make_judge():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16, 10),
    )


def train_judge(loader, val_images, val_labels, epochs):
    judge = make_judge()
    optimizer = torch.optim.Adam(judge.parameters(), lr=2e-3)
    for epoch in range(epochs):
        judge.train()
        for images, labels in loader:
            optimizer.zero_grad()
            F.cross_entropy(judge(images), labels).backward()
            optimizer.step()
        judge.eval()
        with torch.no_grad():
            accuracy = (judge(val_images).argmax(1) == val_labels).float().mean()
        print(f"judge epoch {epoch}: accuracy on real validation digits {accuracy:.3f}")
    return judge.requires_grad_(False)


@torch.no_grad()
def update_average(average, model, decay):
    for a, p in zip(average.parameters(), model.parameters()):
        a.lerp_(p, 1 - decay)
    for a, b in zip(average.buffers(), model.buffers()):
        a.copy_(b)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--latent", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--decay", type=float, default=0.98)
    args = parser.parse_args()
    torch.manual_seed(0)

    def prepare(count, seed):
        images, labels = draw_digits(count, seed=seed, noise=0.05)
        return images.float() / 127.5 - 1, labels

    images, labels = prepare(2000, 0)
    val_images, val_labels = prepare(400, 1)
    loader = DataLoader(TensorDataset(images, labels), batch_size=args.batch_size, shuffle=True, drop_last=True)
    judge = train_judge(loader, val_images, val_labels, epochs=6)

    generator, discriminator = Generator(args.latent), Discriminator()
    average = copy.deepcopy(generator).requires_grad_(False)
    g_optim = torch.optim.Adam(generator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    d_optim = torch.optim.Adam(discriminator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    fixed_noise, fixed_labels = torch.randn(200, args.latent), torch.arange(200) % 10

    for epoch in range(args.epochs):
        generator.train()
        totals = torch.zeros(2)
        for real, labels in loader:
            # discriminator: hinge loss, and the class of real images
            discriminator.requires_grad_(True)
            wanted = torch.randint(0, 10, (len(real),))
            fake = generator(torch.randn(len(real), args.latent), wanted)
            real_score, real_kind = discriminator(real)
            fake_score, _ = discriminator(fake.detach())
            d_loss = F.relu(1 - real_score).mean() + F.relu(1 + fake_score).mean()
            d_loss = d_loss + F.cross_entropy(real_kind, labels)
            d_optim.zero_grad()
            d_loss.backward()
            d_optim.step()

            # generator: the gradient passes through the discriminator, whose weights rest
            discriminator.requires_grad_(False)
            score, kind = discriminator(fake)
            g_loss = -score.mean() + F.cross_entropy(kind, wanted)
            g_optim.zero_grad()
            g_loss.backward()
            g_optim.step()
            update_average(average, generator, args.decay)
            totals += torch.stack([d_loss.detach(), g_loss.detach()])

        average.eval()
        with torch.no_grad():
            samples = average(fixed_noise, fixed_labels)
            right = (judge(samples).argmax(1) == fixed_labels).float().mean()
        d_mean, g_mean = (totals / len(loader)).tolist()
        print(f"epoch {epoch:2d}: d {d_mean:.3f} g {g_mean:.3f} | generated digits recognized {right:.3f}")


if __name__ == "__main__":
    main()
