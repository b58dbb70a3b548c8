"""`optim.low-precision`: are weights stored in a number format that is precise enough for their updates?"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, asked_in_script, digits, perceptron, said, stepped
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.every import every_check
from striate.doctor.checks.optim.low_precision import LOW_PRECISION


@pytest.mark.parametrize("half", [True, False])
def test_an_average_in_half_precision_falls_behind(half: bool) -> None:
    model = perceptron()
    average = copy.deepcopy(model).requires_grad_(False).to(torch.bfloat16 if half else torch.float32)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = stepped(functional.cross_entropy(model(batch[0]), batch[1]), optimizer)
        with torch.no_grad():
            for a, p in zip(average.parameters(), model.parameters(), strict=True):
                a.mul_(0.999).add_(p.to(a.dtype), alpha=0.001)
        return loss

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1, momentum=0.9), "step": step}
    findings = asked_in_script(LOW_PRECISION, model, digits(), **options)
    assert ["an average" in one.measured for one in findings] == [True] * half


class Halved(nn.Module):
    """A network that makes its inputs half itself."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 10, dtype=torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.flatten(1).to(torch.bfloat16)).float()


def test_weights_that_cannot_be_widened() -> None:
    model = Halved()
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.AdamW(model.parameters(), 1e-4)}
    (said,) = asked(LOW_PRECISION, model, digits(), **options)
    assert "NaN" not in said.measured


@pytest.mark.parametrize(("kind", "rate", "coarse"), [(torch.bfloat16, 3e-4, True), (torch.float32, 3e-4, False)])
def test_weights_that_move_by_units_of_their_last_place(kind: torch.dtype, rate: float, coarse: bool) -> None:
    x, y = next(iter(digits(320)))
    model = perceptron().to(kind)
    train = DataLoader(TensorDataset(x.to(kind), y), 32)
    findings = asked(LOW_PRECISION, model, train, optimizer=lambda p: torch.optim.AdamW(p, lr=rate))
    assert [one.code for one in findings] == ["optim.low-precision"] * coarse


@pytest.mark.parametrize(("rate", "momentum", "coarse"), [(3e-3, 0.9, True), (0.1, 0.0, False)])
def test_steps_of_sgd_most_of_which_is_units_of_the_last_place(rate: float, momentum: float, coarse: bool) -> None:
    x, y = next(iter(digits(320)))
    model = perceptron().to(torch.bfloat16)
    train = DataLoader(TensorDataset(x.to(torch.bfloat16), y), 32)
    findings = asked(LOW_PRECISION, model, train, optimizer=lambda p: torch.optim.SGD(p, lr=rate, momentum=momentum))
    assert ["by their squared gradients" in one.measured for one in findings] == [True] * coarse


LOSS = nn.CrossEntropyLoss()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("rate", "wrong"), [(1e-4, True), (0.1, False)])
def test_steps_are_not_rounded_away(rate: float, wrong: bool) -> None:
    model = perceptron().to(torch.bfloat16)
    data = digits().dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(data[0].to(torch.bfloat16), data[1]), 32, shuffle=True)
    found = said(LOW_PRECISION, model, loader, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), rate))
    assert ["do not change in a step" in one.measured for one in found] == [True] * wrong


def test_half_weights_are_tried_before_others_take_the_time() -> None:
    order = every_check()
    assert order.index(LOW_PRECISION) < order.index(SHIFT)


def test_float16_that_breaks_is_reported_where_float32_cannot_be_tried() -> None:
    model = perceptron().half()
    other = perceptron().half()

    def step(network: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(network(batch[0].half()).float(), batch[1])
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for slow, fast in zip(other.parameters(), network.parameters(), strict=True):
                slow.lerp_(fast, 0.1)  # of one type alone
        return value.detach()

    (found,) = asked(LOW_PRECISION, model, digits(), step=step, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    assert "and the loss is NaN or Inf" in found.measured
