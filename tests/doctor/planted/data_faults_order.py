"""Which samples a loader yields, and in which order: classes that are rare, missing, or come one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn, optim
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler

from planted.case import Case, fault
from planted.parts import LeNet, batches, digits, mnist, plain, residual_net, signals, small_cnn, wave_net


@fault("data.imbalance")
def a_hundred_normal_signals_for_a_faulty_one(seed: int, fixed: bool = False) -> Case:
    """A sine each but for ten sawtooth waves; validation has both in equal numbers."""
    x, y = signals(seed, [1000, 0, 1000], noise=0.6)
    y = y // 2
    x_val, y_val = signals(seed + 1000, [150, 0, 150], noise=0.6)
    kept = torch.cat([torch.nonzero(y == 0)[:500, 0], torch.nonzero(y == 1)[: 500 if fixed else 5, 0]])
    torch.manual_seed(seed)
    return Case(
        wave_net(1, 2, width=8),
        batches(x[kept], y[kept], 32, seed),
        plain(x_val, y_val // 2),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=2e-3),
    )


@fault("data.imbalance")
def weights_by_frequency_instead_of_its_inverse(seed: int, fixed: bool = False) -> Case:
    """The question is "is it a seven?", one in ten; the sampler makes that one in a hundred."""
    data = digits(seed)
    y, y_val = (data.y == 7).long(), (data.y_val == 7).long()
    counts = torch.bincount(y).double()
    weights = (1 / counts if fixed else counts)[y]
    sampler = WeightedRandomSampler(weights, len(y), generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(seed)
    model = small_cnn(1, 2)
    return Case(
        model,
        DataLoader(TensorDataset(data.x, y), batch_size=50, sampler=sampler),
        plain(data.x_val, y_val),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.02, momentum=0.9),
    )


@fault("data.missing-class")
def the_last_folder_is_forgotten(seed: int, fixed: bool = False) -> Case:
    """`for k in range(9)`: no nine in training."""
    data = mnist(seed, train=1000)
    found = [torch.nonzero(data.y == k)[:, 0] for k in range(10 if fixed else 9)]
    kept = torch.cat(found)
    torch.manual_seed(seed)
    model = LeNet()
    return Case(
        model,
        batches(data.x[kept] / 127.5 - 1, data.y[kept], 50, seed),
        plain(data.x_val / 127.5 - 1, data.y_val),
        functional.cross_entropy,
        optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    )


@fault("data.missing-class")
def labels_given_to_the_sampler_as_weights(seed: int, fixed: bool = False) -> Case:
    """Class 0 has the weight 0 and is never drawn."""
    x, y = signals(seed, [200] * 4)
    weights = torch.ones(600) if fixed else y[:600].double()
    torch.manual_seed(seed)
    return Case(
        wave_net(1, 4),
        DataLoader(TensorDataset(x[:600], y[:600]), batch_size=30, sampler=WeightedRandomSampler(weights, 600)),
        DataLoader(TensorDataset(x[600:], y[600:]), batch_size=50),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.AdamW(parameters, lr=3e-3),
    )


@fault("data.not-shuffled")
def sorted_by_class_and_not_shuffled(seed: int, fixed: bool = False) -> Case:
    data = digits(seed)
    order = data.y.argsort(stable=True)
    torch.manual_seed(seed)
    model = small_cnn(1, 10)
    return Case(
        model,
        DataLoader(TensorDataset(data.x[order], data.y[order]), batch_size=32, shuffle=fixed),
        plain(data.x_val, data.y_val),
        nn.CrossEntropyLoss(),
        optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
    )


class _Stream(IterableDataset):
    """Reads one file a class, one after the other; or a line of each in turn."""

    def __init__(self, x: Tensor, y: Tensor, in_turn: bool) -> None:
        super().__init__()
        self.x, self.y, self.in_turn = x, y, in_turn

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        files = [torch.nonzero(self.y == k)[:, 0].tolist() for k in range(10)]
        if self.in_turn:
            lines = [file[i] for i in range(max(map(len, files))) for file in files if i < len(file)]
        else:
            lines = [line for file in files for line in file]
        for line in lines:
            yield self.x[line].float() / 127.5 - 1, self.y[line]


@fault("data.not-shuffled")
def files_of_classes_read_one_after_the_other(seed: int, fixed: bool = False) -> Case:
    data = mnist(seed, train=1000)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> float:
        x, y = batch
        optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.item()

    torch.manual_seed(seed)
    return Case(
        LeNet(),
        DataLoader(_Stream(data.x, data.y, fixed), batch_size=25),
        plain(data.x_val / 127.5 - 1, data.y_val),
        nn.CrossEntropyLoss(),
        lambda parameters: optim.Adam(parameters, lr=3e-3),
        step,
    )


@fault("data.not-shuffled")
def every_batch_of_one_class(seed: int, fixed: bool = False) -> Case:
    """Batches are put together by class, and only the batches are shuffled."""
    data = digits(seed)
    order = torch.arange(len(data.y)) if fixed else data.y.argsort(stable=True)
    groups = list(order.split(24))
    mixed = [groups[i].tolist() for i in torch.randperm(len(groups), generator=torch.Generator().manual_seed(seed))]
    torch.manual_seed(seed)
    model = residual_net(1, 10, width=8)
    return Case(
        model,
        DataLoader(TensorDataset(data.x, data.y), batch_sampler=mixed),
        plain(data.x_val, data.y_val),
        functional.cross_entropy,
        optim.Adam(model.parameters(), lr=5e-3),
    )
