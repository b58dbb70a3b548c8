"""A margin classifier of scikit-learn's breast cancer data: one score, hinge loss."""

import torch
import torch.nn as nn
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch.utils.data import DataLoader, TensorDataset


class ScoreNet(nn.Module):
    """A score for each sample, (N,): positive for benign."""

    def __init__(self, inputs, hidden=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, 1),
        )

    def forward(self, x):
        return self.net(x).squeeze(1)


class HingeLoss(nn.Module):
    def __init__(self, margin=1.0):
        super().__init__()
        self.margin = margin

    def forward(self, scores, targets):
        sign = targets.to(scores.dtype)
        return torch.relu(self.margin - sign * scores).mean()


def load():
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.25, stratify=y, random_state=0)
    scaler = StandardScaler().fit(x_train)
    parts = []
    for features, target in ((x_train, y_train), (x_val, y_val)):
        features = torch.tensor(scaler.transform(features), dtype=torch.float32)
        target = torch.tensor(target, dtype=torch.float32)
        target = 2 * target - 1
        parts.append(TensorDataset(features, target))
    return parts


def make_optimizer(params):
    return torch.optim.SGD(params, lr=0.05, momentum=0.9, weight_decay=1e-3)


def setup():
    torch.manual_seed(0)
    train, val = load()
    return {
        "model": ScoreNet(train.tensors[0].shape[1]),
        "train": DataLoader(train, batch_size=32, shuffle=True),
        "val": DataLoader(val, batch_size=64),
        "loss": HingeLoss(),
        "optimizer": make_optimizer,
    }
