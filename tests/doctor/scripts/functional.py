"""Weights as a list of tensors, and functions. The bug: hidden weights that all begin with the same number."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from sklearn.datasets import load_digits
from torch import nn

CODES = ("model.symmetric-init",)


def init_weights(rng, sizes, broken):
    weights = []
    for n_in, n_out in pairwise(sizes):
        w = np.full((n_in, n_out), 0.1) if broken else rng.normal(size=(n_in, n_out)) * np.sqrt(2 / n_in)
        weights.append(torch.tensor(w, dtype=torch.float32, requires_grad=True))
        weights.append(torch.zeros(n_out, requires_grad=True))
    return weights


def predict(weights, x):
    for i in range(0, len(weights) - 2, 2):
        x = F.relu(x @ weights[i] + weights[i + 1])
    return x @ weights[-2] + weights[-1]


class Wrapped(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weights = nn.ParameterList(weights)

    def forward(self, x):
        return predict(list(self.weights), x)


def batches(x, y, size):
    data = torch.utils.data.TensorDataset(x, y)
    return torch.utils.data.DataLoader(data, size, shuffle=True)


def setup(broken: bool) -> dict[str, Any]:
    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    x, y = load_digits(return_X_y=True)
    x = (x - x.mean()) / x.std()
    order = rng.permutation(len(x))
    x, y = torch.tensor(x[order], dtype=torch.float32), torch.tensor(y[order])
    model = Wrapped(init_weights(rng, [64, 32, 32, 10], broken))

    def update(model, batch, optimizer, loss):
        xb, yb = batch
        for w in model.parameters():
            w.grad = None
        value = loss(model(xb), yb)
        value.backward()
        optimizer.step()
        return value

    return {
        "model": model,
        "train": batches(x[:1400], y[:1400], 32),
        "val": (x[1400:], y[1400:]),
        "loss": F.cross_entropy,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
        "step": update,
    }
