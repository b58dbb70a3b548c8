"""Which tones does a signal have? Several labels each; the network ends in a sigmoid."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

FREQUENCIES = (2, 5, 9, 14)


def tones(count, length=64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.linspace(0, 1, length)
    present = (torch.rand(count, len(FREQUENCIES), generator=generator) < 0.5).float()
    signal = torch.zeros(count, length)
    for k, frequency in enumerate(FREQUENCIES):
        phase = 6.2832 * torch.rand(count, 1, generator=generator)
        strength = 0.8 + 0.4 * torch.rand(count, 1, generator=generator)
        signal = signal + present[:, k : k + 1] * strength * torch.sin(6.2832 * frequency * time + phase)
    signal = signal + 0.1 * torch.randn(count, length, generator=generator)
    return signal.unsqueeze(1), present


class ToneTagger(nn.Module):
    def __init__(self, labels, width=32):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(1, width, 17, padding=8),
            nn.BatchNorm1d(width),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(width, width, 9, padding=4),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.head = nn.Linear(2 * width, labels)

    def forward(self, x):
        h = self.conv(x)
        pooled = torch.cat([F.adaptive_avg_pool1d(h, 1), F.adaptive_max_pool1d(h, 1)], dim=1).flatten(1)
        return torch.sigmoid(self.head(pooled))


def criterion(probabilities, targets):
    return F.binary_cross_entropy(probabilities, targets)


def make_loader(count, seed, training):
    return DataLoader(
        TensorDataset(*tones(count, seed=seed)),
        batch_size=50,
        shuffle=training,
    )


def setup():
    torch.manual_seed(0)
    model = ToneTagger(len(FREQUENCIES))
    return {
        "model": model,
        "train": make_loader(1500, 0, True),
        "val": make_loader(300, 1, False),
        "loss": criterion,
        "optimizer": torch.optim.Adam(model.parameters(), lr=3e-3),
    }
