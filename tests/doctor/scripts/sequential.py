"""One Sequential. The bug: a softmax at its end, before a loss that has one of its own."""

from __future__ import annotations

from typing import Any

import torch
from sklearn import datasets
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CODES = ("model.double-softmax",)


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(2)
    X, y = datasets.load_digits(return_X_y=True)
    X = torch.FloatTensor(X)
    X = (X - X.mean()) / X.std()
    y = torch.LongTensor(y)
    train_dl = DataLoader(TensorDataset(X[:1400], y[:1400]), batch_size=64, shuffle=True)
    test_dl = DataLoader(TensorDataset(X[1400:], y[1400:]), batch_size=64)

    layers = [
        nn.Linear(64, 128),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 10),
    ]
    if broken:
        layers.append(nn.Softmax(dim=1))
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def fit_batch(model, batch, opt, loss_fn):
        xb, yb = batch
        loss = loss_fn(model(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    return {
        "model": model,
        "train": train_dl,
        "val": test_dl,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": optimizer,
        "step": fit_batch,
    }
