"""Setups in use whose step, loss or network holds what the doctor is not to touch."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from in_use import InUse, in_use, other_digits, some_digits, use, with_norm_and_dropout
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader


@in_use
def step_that_holds_the_originals() -> InUse:
    model = with_norm_and_dropout()
    sgd = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.99)
    criterion = nn.CrossEntropyLoss()
    count, losses = 0, []

    def step(_model: nn.Module, batch: Any, _optimizer: Any, _loss: Any) -> Tensor:
        nonlocal count
        count += 1
        x, y = batch
        sgd.zero_grad()
        error = criterion(model(x), y)
        error.backward()
        sgd.step()
        schedule.step()
        losses.append(error.item())
        return error

    train = DataLoader(some_digits(), 32, shuffle=True)
    begun = use(model, train, sgd)
    return InUse(model, train, None, {"optimizer": sgd, "step": step, "loss": criterion}, {"s": schedule}, begun)


class Trainer:
    """An object that holds all there is, with a step of its own."""

    def __init__(self) -> None:
        self.model = with_norm_and_dropout()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.losses: list[float] = []
        self.done = 0

    def step(self, _model: nn.Module, batch: Any, _optimizer: Any, _loss: Any, scale: float = 1.0) -> Tensor:
        self.done += 1
        self.optimizer.zero_grad()
        error = functional.cross_entropy(self.model(batch[0]), batch[1]) * scale
        error.backward()
        self.optimizer.step()
        self.losses.append(float(error.detach()))
        return error


@in_use
def step_of_an_object_that_holds_the_originals() -> InUse:
    trainer = Trainer()
    train = DataLoader(some_digits(), 32, shuffle=True)
    begun = use(trainer.model, train, trainer.optimizer)
    options = {"optimizer": trainer.optimizer, "step": trainer.step}
    return InUse(trainer.model, train, None, options, {"model": trainer.model, "optimizer": trainer.optimizer}, begun)


@in_use
def partial_step_that_holds_the_originals() -> InUse:
    trainer = Trainer()
    train = DataLoader(some_digits(), 32, shuffle=True)
    step = partial(trainer.step, scale=0.5)
    return InUse(trainer.model, train, None, {"optimizer": trainer.optimizer, "step": step})


class Balanced(nn.Module):
    """A loss with something to learn, a buffer and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("running", torch.ones(10))
        self.calls = 0

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        self.calls += 1
        self.running.mul_(0.99).add_(torch.bincount(labels, minlength=10), alpha=0.01)
        return functional.cross_entropy(outputs * self.log_scale.exp(), labels, weight=1 / self.running)


@in_use
def loss_with_parameters_and_counts() -> InUse:
    model, loss = with_norm_and_dropout(), Balanced()
    optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=0.01, momentum=0.9)
    train = DataLoader(some_digits(), 32, shuffle=True)
    begun = use(model, train, optimizer, 2)
    loss(torch.zeros(3, 10), torch.tensor([1, 2, 3])).backward()
    return InUse(model, train, DataLoader(other_digits(), 30), {"optimizer": optimizer, "loss": loss}, {}, begun)


class Remembering(nn.Module):
    """Keeps its last feature maps, with the graph that they came from."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(64, 20), nn.Linear(20, 10)
        self.features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.features = functional.relu(self.body(x.flatten(1)))
        return self.head(self.features)


@in_use
def tensor_kept_with_its_graph() -> InUse:
    model = Remembering()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train = DataLoader(some_digits(), 60, shuffle=True)
    begun = use(model, train, optimizer)
    model(torch.ones(2, 64))
    return InUse(model, train, None, {"optimizer": optimizer}, {}, begun)


def by_closure(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    """A step for optimizers that ask for the loss more than once."""

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = functional.cross_entropy(model(batch[0]), batch[1])
        error.backward()
        return error

    return optimizer.step(closure)  # type: ignore[return-value]


@in_use
def optimizer_that_asks_for_the_loss() -> InUse:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    train = DataLoader(some_digits(), 60, shuffle=True)
    begun = iter(train)
    by_closure(model, next(begun), optimizer, None)
    return InUse(model, train, None, {"optimizer": optimizer, "step": by_closure}, {}, begun)
