"""Setups in the middle of their use: a doctor may be called at any time, and nothing of them may change."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from planted.healthy_sources import digits
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset, WeightedRandomSampler


@dataclass
class InUse:
    """The arguments of `striate.diagnose`, what else hangs on them, and an iterator that has begun."""

    model: nn.Module
    train: Any
    val: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Any] = field(default_factory=dict)
    begun: Iterator[Any] | None = None

    def everything(self) -> dict[str, Any]:
        """What has to stay as it is."""
        parts = {"model": self.model, "train": self.train, "val": self.val, "options": self.options}
        return parts | {"others": self.others, "begun": self.begun}


Builder = Callable[[], InUse]
BUILDERS: list[Builder] = []


def in_use(build: Builder) -> Builder:
    """Enter a builder; the global random states are set before it is called."""

    def seeded() -> InUse:
        torch.manual_seed(5)
        np.random.seed(6)
        random.seed(7)
        return build()

    seeded.__name__ = build.__name__
    BUILDERS.append(seeded)
    return seeded


def some_digits() -> TensorDataset:
    parts = digits(0, train=240, val=100)
    return TensorDataset(parts.x, parts.y)


def other_digits() -> TensorDataset:
    parts = digits(0, train=240, val=100)
    return TensorDataset(parts.x_val, parts.y_val)


def use(model: nn.Module, batches: Any, optimizer: torch.optim.Optimizer, steps: int = 3) -> Iterator[Any]:
    """Some steps of training, the last of them without emptying gradients; the iterator goes on from there."""
    begun = iter(batches)
    for _ in range(steps):
        x, y = next(begun)
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return begun


def with_norm_and_dropout() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.Dropout(0.3), nn.Flatten(), nn.Linear(216, 10)
    )


@in_use
def momentum_and_a_schedule() -> InUse:
    model = with_norm_and_dropout()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    train = DataLoader(some_digits(), 32, shuffle=True)
    begun = use(model, train, optimizer)
    schedule.step()
    val = DataLoader(other_digits(), 50)
    return InUse(model, train, val, {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer}, {"s": schedule}, begun)


class Tied(nn.Module):
    """Weights used twice, a tensor that isn't a buffer, a buffer that isn't saved, and a count of its uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.second = nn.Linear(64, 64)
        self.second.weight = self.first.weight
        self.out = nn.Linear(64, 10)
        self.register_buffer("mean", torch.zeros(64), persistent=False)
        self.offset = torch.ones(64)
        self.calls = 0
        self.history: list[float] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = x.flatten(1)
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        self.offset.add_(0.5)
        self.history.append(float(x.detach().mean()))
        return self.out(functional.relu(self.second(functional.relu(self.first(x - self.mean)))))

    def seen(self, *_: Any) -> None:
        """As a hook."""
        self.calls += 1


@in_use
def tied_weights_counts_and_hooks() -> InUse:
    model = Tied()
    model.first.register_forward_hook(model.seen)
    model.first.register_forward_pre_hook(lambda *_: None)
    model.second.register_full_backward_hook(lambda *_: None)
    model.register_state_dict_pre_hook(lambda *_: None)
    model.out.weight.register_hook(lambda grad: grad * 1.0)
    model.out.bias.register_post_accumulate_grad_hook(lambda _: None)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, amsgrad=True)
    optimizer.register_step_post_hook(lambda *_: None)
    train = DataLoader(some_digits(), 40, shuffle=True, generator=torch.Generator().manual_seed(8))
    begun = use(model, train, optimizer)
    return InUse(model, train, None, {"optimizer": optimizer, "loss": functional.cross_entropy}, {}, begun)


class Jittered(Dataset):
    """Images changed a little by four sources of random numbers, and how many were asked for."""

    def __init__(self) -> None:
        self.data, self.rng, self.python, self.asked = some_digits(), np.random.default_rng(9), random.Random(10), 0

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.asked += 1
        x, y = self.data[index]
        x = x * self.rng.uniform(0.9, 1.1) + self.python.gauss(0, 0.01) + 0.01 * torch.randn(1)
        return (x + random.uniform(-0.01, 0.01) + np.random.normal(0, 0.01)).float(), y


@in_use
def random_numbers_of_all_kinds() -> InUse:
    model = with_norm_and_dropout()
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.5, centered=True)
    weights = torch.rand(240, generator=torch.Generator().manual_seed(11)).tolist()
    sampler = WeightedRandomSampler(weights, 160, generator=torch.Generator().manual_seed(12))
    train = DataLoader(Jittered(), 20, sampler=sampler)
    return InUse(model, train, None, {"optimizer": optimizer}, {}, use(model, train, optimizer))


class Stream(IterableDataset):
    """A stream that goes on where it was left, pass after pass."""

    def __init__(self) -> None:
        self.data, self.position = some_digits(), 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(100):
            self.position += 1
            yield self.data[self.position % len(self.data)]


@in_use
def stream_with_a_position() -> InUse:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    train = DataLoader(Stream(), 10)
    return InUse(model, train, DataLoader(Stream(), 25), {"optimizer": optimizer}, {}, use(model, train, optimizer))


class Epochs(Sampler):
    """Another order each epoch, which it counts."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        self.epoch += 1
        yield from np.random.default_rng(self.epoch).permutation(self.count).tolist()


@in_use
def frozen_parts_and_mixed_modes() -> InUse:
    model = nn.Sequential(with_norm_and_dropout()[:5], nn.Linear(216, 24), nn.BatchNorm1d(24), nn.Linear(24, 10))
    train = DataLoader(some_digits(), 30, sampler=Epochs(240))
    begun = use(model, train, torch.optim.SGD(model.parameters(), lr=0.01), 1)
    model[0].requires_grad_(False).eval()
    model[0][3].train()
    model[0][0].weight.grad = None
    model[2].eval()
    head = torch.optim.AdamW([{"params": model[3].parameters(), "lr": 1e-3}, {"params": model[1].parameters()}])
    return InUse(model, train, None, {"optimizer": head, "loss": nn.CrossEntropyLoss()}, {}, begun)


@in_use
def arrays_that_a_layer_writes_into() -> InUse:
    parts = digits(1, train=200, val=80)
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 10))
    return InUse(model, (parts.x, parts.y), (parts.x_val, parts.y_val))


@in_use
def norms_of_the_weights_and_a_factory() -> InUse:
    model = nn.Sequential(
        parametrizations.spectral_norm(nn.Conv2d(1, 6, 3)), nn.BatchNorm2d(6, momentum=None), nn.ReLU(),
        nn.Flatten(), parametrizations.weight_norm(nn.Linear(216, 10)),
    )  # fmt: skip
    train = DataLoader(some_digits(), 32, shuffle=True, drop_last=True)
    begun = use(model, train, torch.optim.SGD(model.parameters(), lr=0.05))
    factory = partial(torch.optim.Adagrad, lr=0.01)
    return InUse(model, train, None, {"optimizer": factory, "loss": nn.CrossEntropyLoss()}, {}, begun)
