"""Noise2Noise: learns to clean images from pairs of noisy captures, without one clean image in training."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from toydata import draw_digits

SIGMA = 0.4


class Captures(Dataset):
    """Two captures of each scene with noise of their own. Which of them is the input is drawn anew each time."""

    def __init__(self, count, seed, with_clean=False):
        drawn, _ = draw_digits(count, size=20, seed=seed, noise=0.0, shift=4)
        self.clean = drawn.float() / 255
        generator = torch.Generator().manual_seed(1000 + seed)
        self.first = self.clean + SIGMA * torch.randn(self.clean.shape, generator=generator)
        self.second = self.clean + SIGMA * torch.randn(self.clean.shape, generator=generator)
        self.with_clean = with_clean

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, index):
        if self.with_clean:
            return self.first[index], self.clean[index]
        if torch.rand(()) < 0.5:
            return self.first[index], self.second[index]
        return self.second[index], self.first[index]


class Denoiser(nn.Module):
    """Predicts the noise, which is then taken away."""

    def __init__(self, width=24):
        super().__init__()
        self.noise = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 1, 3, padding=1),
        )

    def forward(self, x):
        return x - self.noise(x)


def decibel(mse):
    return -10 * math.log10(mse)


def evaluate(model, loader):
    model.eval()
    before = after = count = 0
    with torch.no_grad():
        for noisy, clean in loader:
            before += (noisy - clean).pow(2).sum().item()
            after += (model(noisy) - clean).pow(2).sum().item()
            count += clean.numel()
    return decibel(before / count), decibel(after / count)


def train_epoch(model, loader, criterion, optimizer, scheduler):
    model.train()
    total = 0.0
    for source, target in loader:
        optimizer.zero_grad()
        loss = criterion(model(source), target)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item() * len(source)
    return total / len(loader.dataset)


if __name__ == "__main__":
    torch.manual_seed(5)
    torch.set_num_threads(1)
    train_loader = DataLoader(Captures(1000, seed=20), batch_size=32, shuffle=True)
    valid_loader = DataLoader(Captures(200, seed=21, with_clean=True), batch_size=50)
    model = Denoiser()
    criterion = nn.MSELoss()
    epochs = 16
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=epochs * len(train_loader))
    print(f"the loss can't come below the noise of its targets, about {SIGMA ** 2:.3f}")
    for epoch in range(epochs):
        loss = train_epoch(model, train_loader, criterion, optimizer, scheduler)
        noisy, cleaned = evaluate(model, valid_loader)
        print(f"epoch {epoch:2d} loss {loss:.4f} | PSNR noisy {noisy:.2f} dB, cleaned {cleaned:.2f} dB")
