"""Evaluations that compare a network's outputs with targets of another unit than those of training."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import OwnRun, Watcher
from striate.observe.module_calls import forward_hooks_everywhere
from striate.observe.torch_calls import torch_functions

Error = Callable[[Tensor, Tensor], Tensor]


def mean_absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().mean()


def watched(error: Error, unit: float, *, scaled_back: bool = False) -> OwnRun:
    """What is seen of a regression on shares of `unit`, whose evaluation has targets in that unit."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(64, 3, generator=generator)
    y = unit * x.mean(1, keepdim=True)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    watcher = Watcher(float("inf"), {id(model): "model"})
    optimizer, loss = torch.optim.Adam(model.parameters(), 0.01), nn.MSELoss()
    with ExitStack() as stack:
        stack.enter_context(forward_hooks_everywhere(watcher.enter, watcher.leave))
        stack.enter_context(torch_functions(watcher.call))
        for _ in range(30):
            optimizer.zero_grad()
            loss(model(x).squeeze(1), y.squeeze(1) / unit).backward()
            watcher.stepping(optimizer)
            optimizer.step()
        with torch.no_grad():
            outputs = model(x)
            error(unit * outputs if scaled_back else outputs, y)
    return watcher.run


@pytest.mark.parametrize("error", [mean_absolute, functional.l1_loss, nn.MSELoss(), lambda a, b: (b - a) ** 2])
def test_targets_in_another_unit_are_found(error: Error) -> None:
    (found,) = findings_of(watched(error, 360.0))
    assert found.code == "data.shift"
    assert found.where == "the evaluation of model"
    assert "targets of standard deviation 0.1" in found.measured


@pytest.mark.parametrize(
    ("error", "unit", "scaled_back"),
    [
        (mean_absolute, 1.0, False),
        (mean_absolute, 3.0, False),
        (mean_absolute, 360.0, True),
        (lambda a, b: b - a, 360.0, False),  # an image without the noise that was predicted
    ],
)
def test_others_are_right(error: Error, unit: float, scaled_back: bool) -> None:
    assert findings_of(watched(error, unit, scaled_back=scaled_back)) == []
