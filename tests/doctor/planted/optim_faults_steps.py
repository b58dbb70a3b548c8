"""Steps that are never taken, clipped to nothing, pile up gradients, or leave out parameters."""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from planted.case import Case, fault
from planted.learning import usual_step
from planted.networks import diabetes, digits, mnist, prices, table, waves


def perceptron(*sizes: int) -> nn.Sequential:
    model = nn.Sequential()
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        model.append(nn.Linear(inputs, outputs))
        if i < len(sizes) - 2:
            model.append(nn.ReLU())
    return model


@fault("optim.clip-too-small")
def norm_clipped_to_a_ten_thousandth(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    limit = 1.0 if fixed else 1e-4

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), limit)
        optimizer.step()
        return value

    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(144, 10))
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


@fault("optim.clip-too-small")
def values_clipped_to_a_millionth(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> float:
        model.train()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        nn.utils.clip_grad_value_(model.parameters(), 1.0 if fixed else 1e-6)
        optimizer.step()
        optimizer.zero_grad()
        return value.detach()

    model = perceptron(13, 32, 1)
    train, val = prices(seed).loaders(20, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    return Case(model, train, val, nn.MSELoss(), optimizer, step, task="regress")


@fault("optim.clip-too-small")
def gradients_scaled_down_by_hand(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    most = 2.0 if fixed else 1e-5

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        if norm > most:
            for gradient in gradients:
                gradient.mul_(most / norm)
        optimizer.step()
        return value

    model = nn.Sequential(nn.Conv1d(1, 16, 9, stride=2), nn.ReLU(), nn.Conv1d(16, 24, 5, stride=2), nn.ReLU())
    model.extend([nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 3)])
    train, val = waves(seed).loaders(25, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.SGD(params, lr=0.2, momentum=0.9), step)


@fault("optim.missing-zero-grad")
def gradients_never_cleared(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        x, y = batch
        if fixed:
            optimizer.zero_grad()
        value = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value

    model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten())
    model.append(nn.Linear(256, 10))
    train, val = digits(seed).loaders(64, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, step)


@fault("optim.missing-zero-grad")
def zero_grad_without_its_brackets(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        if not fixed:
            optimizer.zero_grad  # noqa: B018
        else:
            optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value

    model = perceptron(13, 32, 16, 1)
    train, val = prices(seed).loaders(16, seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    return Case(model, train, val, nn.MSELoss(), optimizer, step, task="regress")


@fault("optim.missing-zero-grad")
def gradients_of_a_copy_cleared(seed: int, fixed: bool = False) -> Case:
    """The network that is cleared is the one from before it was copied for training."""
    torch.manual_seed(seed)
    first = perceptron(30, 32, 32, 2)
    model = copy.deepcopy(first)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        (model if fixed else first).zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value

    train, val = table("breast_cancer", seed).loaders(32, seed)
    return Case(model, train, val, F.cross_entropy, lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9), step)


@fault("optim.parameters-missing")
def optimizer_of_the_head_only(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(nn.Conv2d(1, 4, 5, stride=3), nn.ReLU(), nn.Conv2d(4, 4, 5), nn.ReLU())
            self.head = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.features(x).flatten(1))

    model = Network()
    optimizer = torch.optim.Adam(model.parameters() if fixed else model.head.parameters(), lr=5e-3)
    train, val = mnist(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("optim.parameters-missing")
def head_replaced_after_the_optimizer_was_made(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.Tanh(), nn.Linear(24, 1000))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model[3] = nn.Linear(24, 10)
    nn.init.normal_(model[3].weight, std=0.02)
    if fixed:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    train, val = digits(seed).loaders(64, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer)


@fault("optim.parameters-missing")
def groups_that_forget_the_convolutions(seed: int, fixed: bool = False) -> Case:
    """Decay for matrices, none for biases; the filters of four axes fell between."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv1d(1, 4, 9, stride=2), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 6, 5, stride=2))
    model.extend([nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(6, 3)])
    decay = [p for p in model.parameters() if (p.ndim >= 2 if fixed else p.ndim == 2)]
    rest = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    train, val = waves(seed).loaders(25, seed)
    return Case(model, train, val, F.cross_entropy, torch.optim.AdamW(groups, lr=0.01))


@fault("optim.no-step")
def backward_without_a_step(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        if fixed:
            optimizer.step()
        return value

    model = nn.Sequential(nn.Flatten(), perceptron(64, 48, 10))
    train, val = digits(seed).loaders(32, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=2e-3), step)


@fault("optim.no-step", also=["optim.parameters-missing"])
def optimizer_of_another_network(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)
    model = perceptron(13, 32, 3)
    other = perceptron(13, 32, 3)
    optimizer = torch.optim.SGD((model if fixed else other).parameters(), lr=0.05, momentum=0.9)
    train, val = table("wine", seed).loaders(16, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), optimizer, usual_step)


@fault("optim.no-step", also=["optim.missing-zero-grad"])
def gradients_cleared_just_before_the_step(seed: int, fixed: bool = False) -> Case:
    torch.manual_seed(seed)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        if fixed:
            optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        value.backward()
        if not fixed:
            optimizer.zero_grad()
        optimizer.step()
        return value

    model = perceptron(10, 24, 1)
    train, val = diabetes(seed).loaders(20, seed)
    return Case(model, train, val, nn.MSELoss(), torch.optim.Adam(model.parameters(), 3e-3), step, task="regress")


@fault("optim.no-step")
def step_skipped_unless_the_scale_fits(seed: int, fixed: bool = False) -> Case:
    """A scaler written by hand: float16 overflows at this scale, so each step is skipped."""
    torch.manual_seed(seed)
    scale = 64.0 if fixed else 1e9

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = loss(model(batch[0]), batch[1])
        (value * scale).backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if all(g.half().isfinite().all() for g in gradients):
            for g in gradients:
                g.div_(scale)
            optimizer.step()
        return value

    model = nn.Sequential(nn.Flatten(), perceptron(64, 32, 10))
    train, val = digits(seed).loaders(40, seed)
    return Case(model, train, val, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1), step)
