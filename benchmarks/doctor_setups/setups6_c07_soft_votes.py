"""Waves of four kinds, each labeled by five annotators: the targets are the shares of their votes."""

import torch
import torch.nn.functional as F
from torch import nn

from toydata import waves

NUM_CLASSES = 4
NUM_ANNOTATORS = 5


def collect_votes(labels, seed, reliability=0.85):
    """Each annotator names the right kind in 85 % of the cases, else any."""
    generator = torch.Generator().manual_seed(seed)
    shape = (len(labels), NUM_ANNOTATORS)
    right = torch.rand(shape, generator=generator) < reliability
    guess = torch.randint(0, NUM_CLASSES, shape, generator=generator)
    votes = torch.where(right, labels[:, None].expand(shape), guess)
    return F.one_hot(votes, NUM_CLASSES).float().mean(dim=1)


def get_data(count, seed):
    signals, labels = waves(count, seed=seed)
    return signals, collect_votes(labels, seed=100 + seed)


class SoftCrossEntropy(nn.Module):
    def forward(self, logits, probabilities):
        log_p = F.log_softmax(logits, dim=1)
        return -(probabilities * log_p).sum(dim=1).mean()


class ConvBlock1d(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size=7):
        super().__init__()
        self.conv = nn.Conv1d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.norm = nn.BatchNorm1d(out_channels)
        self.pool = nn.MaxPool1d(2)

    def forward(self, x):
        return self.pool(F.relu(self.norm(self.conv(x))))


class WaveNet1d(nn.Module):
    def __init__(self, num_classes=NUM_CLASSES, channels=(16, 32, 32)):
        super().__init__()
        blocks, previous = [], 1
        for width in channels:
            blocks.append(ConvBlock1d(previous, width))
            previous = width
        self.blocks = nn.Sequential(*blocks)
        self.dropout = nn.Dropout(0.1)
        self.fc = nn.Linear(previous, num_classes)

    def forward(self, x):
        x = self.blocks(x).mean(dim=2)
        return self.fc(self.dropout(x))


def make_optimizer(params):
    return torch.optim.AdamW(params, lr=3e-3, weight_decay=1e-3)


def setup():
    torch.manual_seed(6)
    return {
        "model": WaveNet1d(),
        "train": get_data(1500, seed=0),
        "val": get_data(400, seed=1),
        "loss": SoftCrossEntropy(),
        "optimizer": make_optimizer,
    }
