"""Networks to look into, and whether looking left them as they were."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

SHAPE = (3, 12, 12)


class Functional(nn.Module):
    """Calls its activations as functions, and one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.fc = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, padding=1), nn.Linear(6, 4)
        self.bn = nn.BatchNorm2d(6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(self.bn(self.first(x)))
        x = functional.relu(self.twice(x))
        x = x + functional.relu(self.twice(x))
        return self.fc(x.mean((2, 3)))


class Computed(Functional):
    """A weight that is computed anew, with buffers that change, whenever it is read."""

    def __init__(self) -> None:
        super().__init__()
        spectral_norm(self.first)


def network() -> nn.Sequential:
    """Two convolutions, a normalization with statistics, an activation in place, dropout."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5),
        nn.Conv2d(6, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 4),
    )  # fmt: skip


def inputs(n: int = 8) -> torch.Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


@contextmanager
def left_as_it_was(module: nn.Module) -> Iterator[None]:
    """Weights, buffers, modes, gradients, hooks, what needs gradients, and all random state are the same after."""
    module.train()
    next(iter(module.children())).eval()
    first = next(module.parameters())
    first.grad = torch.ones_like(first)
    list(module.parameters())[-1].requires_grad_(False)
    before = _state(module)
    yield
    after = _state(module)
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal(value, after[name]) if isinstance(value, torch.Tensor) else value == after[name]
        assert same, name


def _state(module: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {f"state {key}": value.clone() for key, value in module.state_dict().items()}
    for name, part in module.named_modules():
        hooks = [key for key, value in vars(part).items() if "hook" in key and value]
        found[f"mode {name}"], found[f"hooks {name}"], found[f"names {name}"] = part.training, hooks, sorted(vars(part))
    for name, parameter in module.named_parameters():
        grad = None if parameter.grad is None else (id(parameter.grad), parameter.grad.tolist())
        found[f"parameter {name}"] = (id(parameter), parameter.requires_grad, grad)
    found["random"] = (random.getstate(), torch.get_rng_state().tolist(), str(np.random.get_state()))
    return found


class Failing(nn.Module):
    """The network, until it has been called `calls` times."""

    def __init__(self, inner: nn.Module, calls: int) -> None:
        super().__init__()
        self.inner = inner
        self._left = [calls]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self._left[0] -= 1
        y: torch.Tensor = self.inner(x)
        torch.rand(3)  # noise of its own
        if self._left[0] < 0:
            raise KeyError("planted")
        return y


Look = Callable[[nn.Module], object]
