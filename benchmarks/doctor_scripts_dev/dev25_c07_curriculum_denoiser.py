"""Curriculum learning of a residual denoiser: the noise grows with the epochs, validation is always at full noise."""

import math
import time

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import draw_digits

config = {
    "epochs": 16,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "sigma_start": 0.1,
    "sigma_end": 0.5,
    "ramp_epochs": 6,
}


class DnCNN(nn.Module):
    """Predicts the noise; the clean image is what is left."""

    def __init__(self, features=24):
        super().__init__()
        layers = [nn.Conv2d(1, features, 3, padding=1), nn.ReLU(inplace=True)]
        for dilation in (2, 3):
            layers += [
                nn.Conv2d(features, features, 3, padding=dilation, dilation=dilation, bias=False),
                nn.BatchNorm2d(features),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.Conv2d(features, 1, 3, padding=1))
        self.dncnn = nn.Sequential(*layers)

    def forward(self, x):
        return x - self.dncnn(x)


def sigma_at(epoch):
    """The pacing function: rises in a line, then stays."""
    part = min(1.0, epoch / config["ramp_epochs"])
    return config["sigma_start"] + part * (config["sigma_end"] - config["sigma_start"])


def psnr(mse):
    return -10 * math.log10(mse)


def clean_digits(count, seed):
    """Digits without noise on a ground that brightens along some direction, another for each image."""
    images, _ = draw_digits(count, seed=seed, noise=0.0)
    slopes = torch.rand(count, 2, 1, 1, generator=torch.Generator().manual_seed(1000 + seed)) * 0.3
    ramp = torch.linspace(0, 1, 16)
    ground = slopes[:, :1] * ramp.view(1, 1, 16, 1) + slopes[:, 1:] * ramp.view(1, 1, 1, 16)
    return torch.maximum(images.float() / 255, ground)


class Trainer:
    def __init__(self):
        torch.manual_seed(0)
        self.train_loader = DataLoader(
            TensorDataset(clean_digits(1280, seed=0)), batch_size=config["batch_size"], shuffle=True
        )
        clean = clean_digits(256, seed=1)
        generator = torch.Generator().manual_seed(99)
        noisy = clean + config["sigma_end"] * torch.randn(clean.shape, generator=generator)
        self.val_loader = DataLoader(TensorDataset(noisy, clean), batch_size=128)
        self.model = DnCNN()
        self.criterion = nn.MSELoss()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config["learning_rate"])
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, milestones=[11, 14], gamma=0.3)

    def train_epoch(self, sigma):
        self.model.train()
        total, count = 0.0, 0
        for (clean,) in self.train_loader:
            # half of the batch is at full noise of this epoch, the rest is easier
            strength = sigma * torch.where(torch.rand(len(clean), 1, 1, 1) < 0.5, torch.ones(()), torch.rand(len(clean), 1, 1, 1))
            noisy = clean + strength * torch.randn_like(clean)
            loss = self.criterion(self.model(noisy), clean)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item() * len(clean)
            count += len(clean)
        return total / count

    @torch.no_grad()
    def validate(self):
        self.model.eval()
        before, after, count = 0.0, 0.0, 0
        for noisy, clean in self.val_loader:
            restored = self.model(noisy)
            before += ((noisy - clean) ** 2).mean(dim=(1, 2, 3)).sum().item()
            after += ((restored - clean) ** 2).mean(dim=(1, 2, 3)).sum().item()
            count += len(clean)
        return before / count, after / count

    def fit(self):
        for epoch in range(config["epochs"]):
            started = time.time()
            sigma = sigma_at(epoch)
            train_mse = self.train_epoch(sigma)
            self.scheduler.step()
            before, after = self.validate()
            print(
                f"[{epoch + 1}/{config['epochs']}] sigma {sigma:.2f} train mse {train_mse:.4f} "
                f"val psnr {psnr(before):.2f} -> {psnr(after):.2f} dB ({time.time() - started:.1f}s)"
            )


if __name__ == "__main__":
    Trainer().fit()
