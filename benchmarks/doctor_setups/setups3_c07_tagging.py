"""Tagging of signals: several motifs may occur in one recording; sigmoid outputs and BCELoss."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

ARGS = {
    "tags": 6,
    "length": 96,
    "motif": 10,
    "tag_rate": 0.15,
    "train_size": 1600,
    "val_size": 400,
    "batch_size": 64,
    "lr": 4e-3,
}


class Recordings(Dataset):
    """Noise in which each of the motifs occurs with a probability of `rate`, somewhere."""

    def __init__(self, motifs, count, length, rate, seed):
        generator = torch.Generator().manual_seed(seed)
        tags, width = motifs.shape
        self.tags = (torch.rand(count, tags, generator=generator) < rate).float()
        self.signals = 0.25 * torch.randn(count, 1, length, generator=generator)
        for index, tag in self.tags.nonzero().tolist():
            start = int(torch.randint(0, length - width + 1, (1,), generator=generator))
            self.signals[index, 0, start : start + width] += motifs[tag]

    def __len__(self):
        return len(self.signals)

    def __getitem__(self, index):
        return self.signals[index], self.tags[index]


class Tagger(nn.Module):
    def __init__(self, tags, width=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, width, 11, padding=5), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(),
        )
        self.pool = nn.AdaptiveMaxPool1d(1)
        self.head = nn.Linear(width, tags)

    def forward(self, x):
        h = self.pool(self.features(x)).flatten(1)
        return torch.sigmoid(self.head(h))


def make_motifs(tags, width):
    generator = torch.Generator().manual_seed(66)
    return torch.randn(tags, width, generator=generator).sign() * 1.2


def build_loaders(args):
    motifs = make_motifs(args["tags"], args["motif"])
    train_set = Recordings(motifs, args["train_size"], args["length"], args["tag_rate"], seed=6)
    val_set = Recordings(motifs, args["val_size"], args["length"], args["tag_rate"], seed=7)
    # the same statistics for both
    mean, std = train_set.signals.mean(), train_set.signals.std()
    for part in (train_set, val_set):
        part.signals = (part.signals - mean) / std
    train = DataLoader(train_set, batch_size=args["batch_size"], shuffle=True, drop_last=True)
    return train, DataLoader(val_set, batch_size=200)


def setup():
    torch.manual_seed(6)
    train, val = build_loaders(ARGS)
    model = Tagger(ARGS["tags"])
    return {
        "model": model,
        "train": train,
        "val": val,
        "loss": nn.BCELoss(),
        "optimizer": torch.optim.Adam(model.parameters(), lr=ARGS["lr"]),
    }
