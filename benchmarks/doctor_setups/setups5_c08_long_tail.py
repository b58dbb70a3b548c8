"""Waves with a long tail: a weighted sampler draws all kinds alike."""

import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Sampler, TensorDataset, WeightedRandomSampler

from toydata import waves

KEEP = (1.0, 0.8, 0.6, 0.45)


def thin_out(signals, labels, keep, seed):
    generator = torch.Generator().manual_seed(seed)
    share = torch.tensor(keep)[labels]
    chosen = torch.rand(len(labels), generator=generator) < share
    return signals[chosen], labels[chosen]


class BalancedBatchSampler(Sampler):
    """Batches of `per_class` samples of each class; a class is shuffled anew when it is used up."""

    def __init__(self, labels, per_class):
        self.pools = [(labels == c).nonzero().flatten() for c in labels.unique()]
        self.per_class = per_class
        self.batches = len(labels) // (per_class * len(self.pools))

    def __len__(self):
        return self.batches

    def __iter__(self):
        need = self.batches * self.per_class
        queues = []
        for pool in self.pools:
            rounds = -(-need // len(pool))
            queues.append(torch.cat([pool[torch.randperm(len(pool))] for _ in range(rounds)]))
        for i in range(self.batches):
            part = slice(i * self.per_class, (i + 1) * self.per_class)
            yield torch.cat([queue[part] for queue in queues]).tolist()


def weighted_sampler(labels):
    counts = torch.bincount(labels)
    weights = 1.0 / counts[labels].double()
    return WeightedRandomSampler(weights, num_samples=len(labels), replacement=True)


class WaveNet1d(nn.Module):
    def __init__(self, classes=4, width=24):
        super().__init__()
        layers, cin = [], 1
        for cout, stride in ((width, 1), (width, 2), (2 * width, 2), (2 * width, 2)):
            layers += [nn.Conv1d(cin, cout, 5, stride=stride, padding=2, bias=False), nn.BatchNorm1d(cout), nn.ReLU()]
            cin = cout
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool1d(4)
        self.fc = nn.Linear(4 * cin, classes)

    def forward(self, x):
        return self.fc(self.pool(self.features(x)).flatten(1))


def build_loaders(batch_size=32):
    signals, labels = thin_out(*waves(1600, seed=20), KEEP, seed=21)
    train_set = TensorDataset(signals, labels)
    train = DataLoader(train_set, batch_size=batch_size, sampler=weighted_sampler(labels))
    val = DataLoader(TensorDataset(*waves(400, seed=22)), batch_size=200)
    return train, val


def setup():
    torch.manual_seed(7)
    train, val = build_loaders()
    model = WaveNet1d()
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": lambda params: torch.optim.AdamW(params, lr=2e-3, weight_decay=1e-2),
    }
