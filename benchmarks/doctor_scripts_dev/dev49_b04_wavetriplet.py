"""Learns an embedding of short recordings with triplets; new recordings are recognized by their neighbors."""

import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader, Dataset

import toydata


class CFG:
    seed = 42
    num_train = 900
    num_test = 300
    channels = (16, 32, 64)
    embedding_dim = 32
    margin = 0.3
    batch_size = 32
    epochs = 10
    lr = 1e-3
    neighbors = 5


def seed_everything(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def load_recordings(count, seed):
    """Recordings as a sound card gives them, 16 bits a sample."""
    signals, labels = toydata.waves(count=count, seed=seed)
    return (signals * 6000).round().to(torch.int16), labels


def prepare_data():
    train_pcm, train_y = load_recordings(CFG.num_train, seed=0)
    test_pcm, test_y = load_recordings(CFG.num_test, seed=1)

    order = torch.randperm(len(train_pcm))
    train_pcm, train_y = train_pcm[order], train_y[order]

    mean, std = train_pcm.float().mean(), train_pcm.float().std()
    train_x = (train_pcm.float() - mean) / std
    test_x = (test_pcm.float() - mean) / std
    return train_x, train_y, test_x, test_y


class TripletDataset(Dataset):
    def __init__(self, signals, labels):
        self.signals, self.labels = signals, labels
        self.same = {int(c): torch.nonzero(labels == c).flatten() for c in labels.unique()}
        self.other = {int(c): torch.nonzero(labels != c).flatten() for c in labels.unique()}

    def __len__(self):
        return len(self.signals)

    @staticmethod
    def pick(candidates):
        return candidates[torch.randint(len(candidates), (1,)).item()]

    def __getitem__(self, index):
        label = int(self.labels[index])
        positive = self.pick(self.same[label])
        negative = self.pick(self.other[label])
        return self.signals[index], self.signals[positive], self.signals[negative]


def make_block(c_in, c_out):
    return nn.Sequential(
        nn.Conv1d(c_in, c_out, 7, padding=3),
        nn.BatchNorm1d(c_out),
        nn.ReLU(),
        nn.MaxPool1d(2),
    )


class WaveEncoder(nn.Module):
    def __init__(self, channels, embedding_dim):
        super().__init__()
        widths = (1,) + tuple(channels)
        self.blocks = nn.ModuleList([make_block(a, b) for a, b in zip(widths[:-1], widths[1:])])
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.project = nn.Linear(widths[-1], embedding_dim)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return F.normalize(self.project(self.pool(x).flatten(1)), dim=1)


def train_epoch(encoder, loader, optimizer):
    encoder.train()
    total = 0.0
    for anchor, positive, negative in loader:
        embeddings = encoder(torch.cat([anchor, positive, negative]))
        emb_a, emb_p, emb_n = embeddings.chunk(3)
        loss = F.triplet_margin_loss(emb_a, emb_p, emb_n, margin=CFG.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item() * len(anchor)
    return total / len(loader.dataset)


@torch.no_grad()
def embed(encoder, signals):
    encoder.eval()
    return torch.cat([encoder(chunk) for chunk in signals.split(128)]).numpy()


def knn_accuracy(encoder, train_x, train_y, test_x, test_y):
    knn = KNeighborsClassifier(n_neighbors=CFG.neighbors)
    knn.fit(embed(encoder, train_x), train_y.numpy())
    return knn.score(embed(encoder, test_x), test_y.numpy())


def run():
    seed_everything(CFG.seed)
    train_x, train_y, test_x, test_y = prepare_data()
    loader = DataLoader(TripletDataset(train_x, train_y), batch_size=CFG.batch_size, shuffle=True, drop_last=False)
    encoder = WaveEncoder(CFG.channels, CFG.embedding_dim)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=CFG.lr)
    for epoch in range(1, CFG.epochs + 1):
        loss = train_epoch(encoder, loader, optimizer)
        if epoch % 2 == 0:
            accuracy = knn_accuracy(encoder, train_x, train_y, test_x, test_y)
            print(f"epoch {epoch:2d} | triplet loss {loss:.4f} | {CFG.neighbors}-nn accuracy {accuracy:.3f}")
        else:
            print(f"epoch {epoch:2d} | triplet loss {loss:.4f}")


if __name__ == "__main__":
    run()
