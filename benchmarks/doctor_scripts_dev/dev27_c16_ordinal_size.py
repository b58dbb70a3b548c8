"""Ordinal regression (CORAL): in which of six steps of size is the disc? Loss and metrics respect the order."""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

K = 6


def make_discs(count, seed, size=20):
    generator = torch.Generator().manual_seed(seed)
    grade = torch.randint(0, K, (count,), generator=generator)
    radius = 2.0 + grade.float() + 0.4 * (torch.rand(count, generator=generator) - 0.5)
    free = (size - 2 * radius).clamp(min=0)
    center = radius[:, None] + torch.rand(count, 2, generator=generator) * free[:, None] - 0.5
    axis = torch.arange(size).float()
    dy = (axis[None, :, None] - center[:, 0, None, None]) ** 2
    dx = (axis[None, None, :] - center[:, 1, None, None]) ** 2
    inside = (dy + dx <= radius[:, None, None] ** 2).float()
    bright = 0.4 + 0.6 * torch.rand(count, 1, 1, generator=generator)
    images = inside * bright + 0.1 * torch.randn(count, size, size, generator=generator)
    return images.unsqueeze(1), grade


class CoralNet(nn.Module):
    """One shared score of an image, and K-1 biases: logits of 'the grade is above k'."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ELU(), nn.AvgPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ELU(), nn.AvgPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ELU(), nn.Flatten(),
            nn.Linear(32 * 25, 48), nn.ELU())
        self.score = nn.Linear(48, 1, bias=False)
        self.bias = nn.Parameter(torch.linspace(1.0, -1.0, K - 1))

    def forward(self, x):
        return self.score(self.features(x)) + self.bias


def levels(grade):
    return (grade[:, None] > torch.arange(K - 1)).float()


def coral_loss(logits, grade):
    return F.binary_cross_entropy_with_logits(logits, levels(grade), reduction="none").sum(1).mean()


def decode(logits):
    return (logits > 0).sum(1)


def evaluate(model, loader):
    model.eval()
    absolute = exact = n = 0
    with torch.no_grad():
        for x, grade in loader:
            guess = decode(model(x))
            absolute += (guess - grade).abs().sum().item()
            exact += (guess == grade).sum().item()
            n += len(grade)
    return absolute / n, exact / n


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=25)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--batch", type=int, default=32)
    a = p.parse_args()
    torch.manual_seed(0)
    x_train, y_train = make_discs(1200, seed=90)
    x_val, y_val = make_discs(300, seed=91)
    mean, std = x_train.mean(), x_train.std()
    train = DataLoader(TensorDataset((x_train - mean) / std, y_train), a.batch, shuffle=True, drop_last=True)
    val = DataLoader(TensorDataset((x_val - mean) / std, y_val), 100)
    model = CoralNet()
    opt = torch.optim.Adam(model.parameters(), lr=a.lr)
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, a.epochs * len(train))
    for epoch in range(a.epochs):
        model.train()
        total = 0.0
        for x, grade in train:
            loss = coral_loss(model(x), grade)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            total += loss.item()
        mae, acc = evaluate(model, val)
        print(f"epoch {epoch} loss {total / len(train):.4f} val MAE {mae:.3f} val exact {acc:.3f}")


if __name__ == "__main__":
    main()
