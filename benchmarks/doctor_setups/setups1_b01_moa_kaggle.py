"""Mechanisms of action, notebook v7: several labels for each row of a table."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, Dataset


class CFG:
    seed = 42
    n_rows = 1600
    n_genes = 20
    n_targets = 5
    hidden = 64
    dropout = 0.2
    lr = 3e-3
    weight_decay = 1e-5
    batch_size = 64
    valid_frac = 0.2
    smoothing = 0.002


def load_table(cfg):
    """Gene expressions (each column with its own unit) and the targets that a row is positive for."""
    rng = np.random.RandomState(cfg.seed)
    latent = rng.randn(cfg.n_rows, cfg.n_targets)
    mixing = rng.randn(cfg.n_targets, cfg.n_genes)
    features = latent @ mixing + 0.3 * rng.randn(cfg.n_rows, cfg.n_genes)
    units = np.exp(rng.uniform(-1, 3, cfg.n_genes))
    offsets = units * rng.uniform(-3, 3, cfg.n_genes)
    targets = (latent > 0.4).astype(np.float32)
    return features * units + offsets, targets


class MoADataset(Dataset):
    def __init__(self, features, targets):
        self.features = features
        self.targets = targets

    def __len__(self):
        return len(self.features)

    def __getitem__(self, idx):
        return (
            torch.tensor(self.features[idx], dtype=torch.float),
            torch.tensor(self.targets[idx], dtype=torch.float),
        )


class Model(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.dense1 = nn.Linear(cfg.n_genes, cfg.hidden)
        self.batch_norm1 = nn.BatchNorm1d(cfg.hidden)
        self.dropout1 = nn.Dropout(cfg.dropout)
        self.dense2 = nn.Linear(cfg.hidden, cfg.hidden)
        self.batch_norm2 = nn.BatchNorm1d(cfg.hidden)
        self.dropout2 = nn.Dropout(cfg.dropout)
        self.dense3 = nn.Linear(cfg.hidden, cfg.n_targets)

    def forward(self, x):
        x = self.dropout1(F.leaky_relu(self.batch_norm1(self.dense1(x))))
        x = self.dropout2(F.leaky_relu(self.batch_norm2(self.dense2(x))))
        return self.dense3(x)


class SmoothBCEwLogits(nn.Module):
    def __init__(self, smoothing=0.0):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, inputs, targets):
        targets = targets * (1 - self.smoothing) + 0.5 * self.smoothing
        return F.binary_cross_entropy_with_logits(inputs, targets)


def setup():
    torch.manual_seed(CFG.seed)
    features, targets = load_table(CFG)

    rng = np.random.RandomState(CFG.seed + 1)
    order = rng.permutation(len(features))
    features, targets = features[order], targets[order]

    n_valid = int(CFG.valid_frac * len(features))
    scaler = StandardScaler().fit(features[n_valid:])
    x_train, y_train = scaler.transform(features[n_valid:]), targets[n_valid:]
    x_valid, y_valid = scaler.transform(features[:n_valid]), targets[:n_valid]

    train_loader = DataLoader(MoADataset(x_train, y_train), batch_size=CFG.batch_size, shuffle=True, drop_last=True)
    valid_loader = DataLoader(MoADataset(x_valid, y_valid), batch_size=CFG.batch_size, shuffle=False)

    model = Model(CFG)
    return {
        "model": model,
        "train": train_loader,
        "val": valid_loader,
        "loss": SmoothBCEwLogits(CFG.smoothing),
        "optimizer": torch.optim.Adam(model.parameters(), lr=CFG.lr, weight_decay=CFG.weight_decay),
    }
