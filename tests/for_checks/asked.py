"""One check asked about one setup, as a diagnosis would; small data and loops that tests share."""

from __future__ import annotations

import ast
import textwrap
from contextlib import suppress
from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from remedies_tried import try_remedy
from striate.doctor.checks.check import Check
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup
from striate.records import Finding


def asked(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What the check finds; each remedy is tried, and each limit is a clause."""
    setup = make_setup(model, train, options.pop("val", None), **options)
    with state_preserved(setup):
        # So long that nothing is left out on busy cores; what is measured takes a fraction of it.
        found = list(check.run(Evidence(setup, Clock(120.0))))
    for finding in found:
        try_remedy(finding.remedy)
        assert 0 < len(finding.threshold) <= 300, finding
    return found


@cache
def _digits() -> tuple[Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    pixels = torch.tensor(x, dtype=torch.float32).reshape(-1, 1, 8, 8)
    return (pixels - pixels.mean()) / pixels.std(), torch.tensor(y).long()


def digits(batch: int = 32, most: int = 640) -> DataLoader[Any]:
    """Standardized digits (1, 8, 8), shuffled."""
    x, y = _digits()
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(x[:most], y[:most]), batch, shuffle=True, generator=generator)


def pixels(count: int = 320) -> tuple[Tensor, Tensor]:
    """Images and labels of `digits`, to be changed."""
    x, y = _digits()
    return x[:count].clone(), y[:count].clone()


def parts() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Digits to train on and others to validate on."""
    x, y = _digits()
    return (x[:640], y[:640]), (x[640:900], y[640:900])


def more_rows(count: int = 400, numbers: int = 8) -> Tensor:
    """Rows of independent numbers."""
    return torch.randn(count, numbers, generator=torch.Generator().manual_seed(0))


def rows_in_batches(x: Tensor, y: Tensor) -> DataLoader[Any]:
    return DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=torch.Generator().manual_seed(0))


def perceptron(hidden: int = 32, depth: int = 1, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """A fresh network for digits."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(depth):
        layers += [nn.Linear(64 if i == 0 else hidden, hidden), activation()]
    return nn.Sequential(*layers, nn.Linear(hidden, 10))


def loop(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    """A training step."""
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value.detach()


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What the check finds; nothing where it has no evidence."""
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def read(text: str, check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What a check says of a script with this loop in it, whose names are given."""
    tree, names = ast.parse(textwrap.dedent(text)), options.pop("names", {})
    loop = next(n for n in ast.walk(tree) if isinstance(n, ast.For) and ast.unparse(n.iter) == "loader")
    place, calling = ("t.py", loop.lineno, loop.end_lineno or 0), options.pop("calling", frozenset())
    source = ScriptSource({"t.py": tree}, names, place, options.pop("epochs", 5), calling=calling)
    return said(check, model, train, source=source, **options)


def asked_in_script(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    """What a check says of a script that is nothing but a loop."""
    return read("for x, y in loader:\n    pass\n", check, model, train, **options)


def adam(parameters: Any, lr: float = 0.003) -> torch.optim.Optimizer:
    """The usual optimizer."""
    return torch.optim.Adam(parameters, lr)


def quick_adam(parameters: Any) -> torch.optim.Optimizer:
    """One whose steps are so long that a few of them show something."""
    return adam(parameters, 0.01)


def stepped(loss: Tensor, optimizer: Any) -> Tensor:
    """A training step by a loss that is computed already."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def sgd(model: nn.Module, lr: float = 0.05, **options: Any) -> torch.optim.Optimizer:
    """Gradient descent of all parameters."""
    return torch.optim.SGD(model.parameters(), lr=lr, **options)
