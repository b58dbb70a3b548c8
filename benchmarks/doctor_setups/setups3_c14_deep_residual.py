"""A very deep one-dimensional residual network on waves, with soft labels: the votes of ten annotators."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from toydata import waves

CFG = {
    "depth": 20,
    "width": 24,
    "classes": 4,
    "annotators": 10,
    "reliability": 0.9,
    "batch_size": 40,
    "lr": 3e-3,
}


def annotate(labels, classes, annotators, reliability, seed):
    """Shares of the votes: each annotator is right with `reliability`, else names any class."""
    generator = torch.Generator().manual_seed(seed)
    guesses = torch.randint(0, classes, (len(labels), annotators), generator=generator)
    right = torch.rand(len(labels), annotators, generator=generator) < reliability
    votes = torch.where(right, labels[:, None].expand(-1, annotators), guesses)
    return F.one_hot(votes, classes).float().mean(1)


class ResidualBlock(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=1)
        self.scale = depth**-0.5  # keeps the variance of the sum of all blocks bounded
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        nn.init.zeros_(self.conv.bias)

    def forward(self, x):
        return x + self.scale * self.conv(F.relu(x))


class DeepWaveNet(nn.Module):
    def __init__(self, width, depth, classes):
        super().__init__()
        self.stem = nn.Conv1d(1, width, 7, stride=2, padding=3)
        self.blocks = nn.Sequential(*[ResidualBlock(width, depth) for _ in range(depth)])
        self.head = nn.Linear(width, classes)

    def forward(self, x):
        h = F.relu(self.blocks(self.stem(x)))
        return self.head(h.mean(dim=-1))


class SoftCrossEntropy(nn.Module):
    def forward(self, logits, shares):
        return -(shares * F.log_softmax(logits, dim=1)).sum(1).mean()


def build_set(count, seed):
    signals, labels = waves(count=count, seed=seed)
    shares = annotate(labels, CFG["classes"], CFG["annotators"], CFG["reliability"], seed=seed + 100)
    return TensorDataset(signals, shares)


def make_optimizer(params):
    return torch.optim.Adam(params, lr=CFG["lr"])


def train_step(model, batch, optimizer, loss):
    signals, shares = batch
    optimizer.zero_grad()
    value = loss(model(signals), shares)
    value.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    optimizer.step()
    return value.detach()


def setup():
    torch.manual_seed(13)
    return {
        "model": DeepWaveNet(CFG["width"], CFG["depth"], CFG["classes"]),
        "train": DataLoader(build_set(1200, 0), batch_size=CFG["batch_size"], shuffle=True),
        "val": DataLoader(build_set(300, 1), batch_size=100),
        "loss": SoftCrossEntropy(),
        "optimizer": make_optimizer,
        "step": train_step,
    }
