"""Healthy data, as different people hand it over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from planted.case import Case, healthy
from planted.healthy_losses import small_network
from planted.healthy_sources import Split, digits, loader, loaders


def normed_network(width: int = 16) -> nn.Sequential:
    """Two convolutions with batch norm, and one full layer."""
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * width, 10),
    )  # fmt: skip


class Shifted(Dataset):
    """Digits moved by a pixel at most and seen a little brighter or darker, anew at each look."""

    def __init__(self, x: Tensor, y: Tensor, seed: int) -> None:
        self.x, self.y = x, y
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        rows, columns = self.rng.integers(-1, 2, 2)
        image = torch.roll(self.x[index], (int(rows), int(columns)), dims=(1, 2))
        return image * float(self.rng.uniform(0.9, 1.1)), int(self.y[index])


@healthy
def three_hundred_augmented_images(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed, train=300, val=300)
    train = DataLoader(Shifted(parts.x, parts.y, seed), batch_size=32, shuffle=True)
    model = normed_network()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    return Case(model, train, loader(parts.x_val, parts.y_val, 100, shuffle=False), nn.CrossEntropyLoss(), optimizer)


@healthy
def five_hundred_images(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed, train=500, val=300), 25)
    model = small_network()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


def thinned(parts: Split, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Of the digits 0 to 4 only a share is kept."""
    drawn = torch.rand(len(parts.y), generator=torch.Generator().manual_seed(seed + 1))
    kept = (parts.y > 4) | (drawn < share)
    return parts.x[kept], parts.y[kept]


@healthy
def mild_imbalance(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    x, y = thinned(parts, 0.4, seed)
    model = small_network()
    val = loader(parts.x_val, parts.y_val, shuffle=False)
    return Case(model, loader(x, y), val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@healthy
def imbalance_balanced_by_the_sampler(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    x, y = thinned(parts, 0.15, seed)
    weight = 1 / torch.bincount(y, minlength=10)[y]
    sampler = WeightedRandomSampler(weight.tolist(), len(y), generator=torch.Generator().manual_seed(seed))
    train = DataLoader(TensorDataset(x, y), batch_size=64, sampler=sampler)
    model = normed_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    return Case(model, train, loader(parts.x_val, parts.y_val, shuffle=False), nn.CrossEntropyLoss(), optimizer)


@healthy
def batches_made_by_a_sampler(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    order = torch.utils.data.RandomSampler(range(len(parts.x)), generator=torch.Generator().manual_seed(seed))
    train = DataLoader(TensorDataset(parts.x, parts.y), batch_sampler=BatchSampler(order, 40, drop_last=True))
    model = small_network()
    val = loader(parts.x_val, parts.y_val, shuffle=False)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


class Stream(IterableDataset):
    """Samples in an order that is drawn anew at each pass; their number isn't told."""

    def __init__(self, x: Tensor, y: Tensor, seed: int) -> None:
        self.x, self.y, self.rng = x, y, np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for i in self.rng.permutation(len(self.x)):
            yield self.x[i], self.y[i]


@healthy
def samples_that_come_as_a_stream(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    train = DataLoader(Stream(parts.x, parts.y, seed), batch_size=64)
    model = small_network()
    val = loader(parts.x_val, parts.y_val, shuffle=False)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@healthy
def batches_that_are_dictionaries(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)

    def rows(x: Tensor, y: Tensor) -> list[dict[str, Any]]:
        return [{"image": x[i], "label": int(y[i]), "name": f"digit {i}"} for i in range(len(x))]

    def step(model: nn.Module, batch: dict[str, Any], optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
        optimizer.zero_grad()
        error = loss(model(batch["image"]), batch["label"])
        error.backward()
        optimizer.step()
        return error

    train = DataLoader(rows(parts.x, parts.y), batch_size=64, shuffle=True)  # type: ignore[arg-type]
    val = DataLoader(rows(parts.x_val, parts.y_val), batch_size=64)  # type: ignore[arg-type]
    model = small_network()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


class Twins(nn.Module):
    """One trunk for two images, and how alike they are."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU())
        self.head = nn.Linear(24, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.head((self.trunk(a) - self.trunk(b)).abs())[:, 0]


@healthy
def two_images_compared(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)

    def pairs(x: Tensor, y: Tensor, count: int, seed: int) -> TensorDataset:
        rng = np.random.default_rng(seed)
        first = rng.integers(0, len(y), count)
        same = rng.integers(0, 2, count).astype(bool)
        second = [rng.choice(np.flatnonzero((y.numpy() == int(y[i])) == s)) for i, s in zip(first, same, strict=True)]
        return TensorDataset(x[first], x[second], torch.tensor(same, dtype=torch.float32))

    def step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
        a, b, same = batch
        optimizer.zero_grad()
        error = loss(model(a, b), same)
        error.backward()
        optimizer.step()
        return error

    train = DataLoader(pairs(parts.x, parts.y, 8000, seed), batch_size=100, shuffle=True)
    val = DataLoader(pairs(parts.x_val, parts.y_val, 400, seed + 1), batch_size=100)
    model = Twins()
    return Case(model, train, val, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


@healthy
def one_image_there_twice(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    x, y = torch.cat([parts.x, parts.x[17:18]]), torch.cat([parts.y, parts.y[17:18]])
    model = small_network()
    val = loader(parts.x_val, parts.y_val, shuffle=False)
    return Case(model, loader(x, y), val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@healthy
def pixels_between_zero_and_one(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed, standardize=False))
    model = normed_network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@healthy
def last_batch_smaller(seed: int) -> Case:
    torch.manual_seed(seed)
    train, val = loaders(digits(seed, train=1211, val=391), 60)
    model = normed_network()
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.AdamW(model.parameters(), lr=2e-3))


@healthy
def large_batches_without_the_rest(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed, train=1350, val=400)
    train = loader(parts.x, parts.y, 256, drop_last=True)
    model = normed_network()
    val = loader(parts.x_val, parts.y_val, 200, shuffle=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


def stacked(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A collate function of one's own: images with channels last in memory."""
    images, labels = zip(*samples, strict=True)
    return torch.stack(images).contiguous(memory_format=torch.channels_last), torch.stack(labels)


@healthy
def own_collate_and_no_validation(seed: int) -> Case:
    torch.manual_seed(seed)
    parts = digits(seed)
    train = loader(parts.x, parts.y, 64, collate_fn=stacked, generator=torch.Generator().manual_seed(seed))
    return Case(normed_network(12), train, loss=nn.CrossEntropyLoss())
