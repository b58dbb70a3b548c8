"""Two moons, a tiny network with one output, weight decay on the weights alone."""

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset

SEED = 1337
HIDDEN = 16
LEARNING_RATE = 0.02
BATCH_SIZE = 32


def load_moons():
    X, y = make_moons(n_samples=1000, noise=0.15, random_state=SEED)
    y = y.astype(np.float32)
    X_train, X_val, y_train, y_val = train_test_split(X, y, test_size=0.25, stratify=y, random_state=SEED)
    scaler = StandardScaler().fit(X_train)
    X_train, X_val = scaler.transform(X_train), scaler.transform(X_val)
    return [torch.from_numpy(a.astype(np.float32)) for a in (X_train, y_train, X_val, y_val)]


class MoonMLP(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.fc1 = nn.Linear(2, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x):
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        return self.out(x)


class MoonLoss(nn.Module):
    def forward(self, score, target):
        score = score.squeeze(1)
        return F.binary_cross_entropy_with_logits(score, target)


def configure_optimizer(params):
    """Biases are not decayed."""
    params = list(params)
    decay = [p for p in params if p.ndim >= 2]
    no_decay = [p for p in params if p.ndim < 2]
    groups = [
        {"params": decay, "weight_decay": 1e-3},
        {"params": no_decay, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE)


def setup():
    torch.manual_seed(SEED)
    x_train, y_train, x_val, y_val = load_moons()
    train = DataLoader(TensorDataset(x_train, y_train), batch_size=BATCH_SIZE, shuffle=True)
    val = DataLoader(TensorDataset(x_val, y_val), batch_size=125)
    return {
        "model": MoonMLP(HIDDEN),
        "train": train,
        "val": val,
        "loss": MoonLoss(),
        "optimizer": configure_optimizer,
    }
