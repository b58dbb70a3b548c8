"""Losses that fall without bound for equal outputs, or that are zero whatever the outputs are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.loss.degenerate.unbounded import _are_mask_scores, falls_without_bound
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("values_", "mask"), [([-1e9] * 8, True), ([-2e4 * n for n in range(1, 9)], False)])
def test_scores_of_a_mask_are_equal(values_: list[float], mask: bool) -> None:
    assert _are_mask_scores(torch.tensor(values_)) is mask


class Spreading(nn.Module):
    """A number, and beside it another, which cannot be below zero if it is a square."""

    def __init__(self, squared: bool) -> None:
        super().__init__()
        self.hidden, self.out, self.squared = nn.Linear(6, 16), nn.Linear(16, 3), squared

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out(self.hidden(x).tanh())
        return out[:, :2], out[:, 2] ** 2 if self.squared else out[:, 2]


@pytest.mark.parametrize("squared", [True, False])
def test_a_penalty_output_cannot_be_negative(squared: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 6)
    data = DataLoader(TensorDataset(x, x[:, :2].sin()), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        guess, spread = net(batch[0])
        value = functional.mse_loss(guess, batch[1]) + spread.mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Spreading(squared)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    setup = make_setup(model, data, None, optimizer=optimizer, step=step, task="regress")
    assert (falls_without_bound(Evidence(setup, Clock(120.0))) is None) is squared


class Mixture(nn.Module):
    """Means of two Gaussians, and scores or logarithms of their weights."""

    def __init__(self, normalized: bool) -> None:
        super().__init__()
        self.hidden, self.out, self.normalized = nn.Linear(6, 16), nn.Linear(16, 4), normalized

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        out = self.out(self.hidden(x).tanh())
        return (functional.log_softmax(out[:, :2], 1) if self.normalized else out[:, :2]), out[:, 2:]


@pytest.mark.parametrize("normalized", [True, False])
def test_logarithms_of_weights_are_bounded(normalized: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(128, 6)
    data = DataLoader(TensorDataset(x, x[:, :2].sin()), 32)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        weights, means = model(batch[0])
        value: Tensor = -torch.logsumexp(weights - (batch[1] - means).square(), 1).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Mixture(normalized)
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    said = falls_without_bound(Evidence(make_setup(model, data, step=step, optimizer=optimizer), Clock(30.0)))
    assert (said is None) == normalized
