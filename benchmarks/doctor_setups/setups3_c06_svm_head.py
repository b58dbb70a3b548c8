"""Deep learning with linear support vector machines (Tang 2013): an L2-SVM on top of a small network, labels -1 and 1."""

import numpy as np
import torch
from sklearn.datasets import make_moons
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

HPARAMS = {
    "n_samples": 1500,
    "noise": 0.2,
    "width": 32,
    "batch_size": 64,
    "lr": 0.05,
    "momentum": 0.9,
    "body_decay": 1e-4,
    "head_decay": 1e-4,
}


class SVMNet(nn.Module):
    def __init__(self, inputs, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, width), nn.Tanh(),
            nn.Linear(width, width), nn.Tanh(),
        )
        self.head = nn.Linear(width, 1)

    def forward(self, x):
        return self.head(self.body(x)).squeeze(1)


class SquaredHinge(nn.Module):
    """mean(max(0, 1 - y f(x))^2), y in {-1, 1}"""

    def forward(self, scores, targets):
        return torch.clamp(1 - targets * scores, min=0).pow(2).mean()


def load_data(n_samples, noise):
    x, y = make_moons(n_samples=n_samples, noise=noise, random_state=5)
    y = np.where(y == 1, 1.0, -1.0)
    x_train, x_val, y_train, y_val = train_test_split(x, y, test_size=0.2, random_state=5, stratify=y)
    scaler = StandardScaler().fit(x_train)

    def to_set(features, labels):
        features = scaler.transform(features).astype(np.float32)
        return TensorDataset(torch.from_numpy(features), torch.from_numpy(labels.astype(np.float32)))

    return to_set(x_train, y_train), to_set(x_val, y_val)


def configure_optimizer(model):
    groups = [
        {"params": model.body.parameters(), "weight_decay": HPARAMS["body_decay"]},
        {"params": [model.head.weight], "weight_decay": HPARAMS["head_decay"]},
        {"params": [model.head.bias], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=HPARAMS["lr"], momentum=HPARAMS["momentum"], nesterov=True)


def setup():
    torch.manual_seed(5)
    train_set, val_set = load_data(HPARAMS["n_samples"], HPARAMS["noise"])
    model = SVMNet(2, HPARAMS["width"])
    return {
        "model": model,
        "train": DataLoader(train_set, batch_size=HPARAMS["batch_size"], shuffle=True),
        "val": DataLoader(val_set, batch_size=300),
        "loss": SquaredHinge(),
        "optimizer": configure_optimizer(model),
    }
