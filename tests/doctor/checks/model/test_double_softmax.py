"""`model.double-softmax`: does a loss that applies softmax or sigmoid itself get logits?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, quick_adam, stepped
from striate.doctor.checks.model.double_softmax import DOUBLE_SOFTMAX
from striate.records import Remedy


@pytest.mark.parametrize("twice", [True, False])
def test_softmax_of_what_comes_out_of_an_array(twice: bool) -> None:
    """Numbers that NumPy varies are of the batch."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x = torch.as_tensor(np.clip(batch[0].numpy(), -1, 1), dtype=torch.float32)
        return stepped(functional.cross_entropy(model(x), batch[1]), optimizer)

    model = nn.Sequential(*perceptron(), *[nn.Softmax(1)] * twice)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 10), 32)
    found = asked(DOUBLE_SOFTMAX, model, train, **options)
    assert [one.code for one in found] == ["model.double-softmax"] * twice


def test_the_smaller_loss_without_the_softmax_is_reported() -> None:
    (found,) = asked(DOUBLE_SOFTMAX, nn.Sequential(*perceptron(), nn.Softmax(1)), digits(), optimizer=quick_adam)
    assert found.where == "softmax in model[4]"
    assert "without the softmax, the loss after 160 steps is 0." in found.measured
    assert " instead of 1." in found.measured
    assert "Remove the softmax" in found.remedy


def test_the_remedy_for_a_training_by_striate_is_no_python() -> None:
    """A layer string has no loss to replace."""
    (found,) = asked(DOUBLE_SOFTMAX, nn.Sequential(*perceptron(), nn.Softmax(1)), digits(), optimizer=quick_adam)
    assert isinstance(found.remedy, Remedy)
    assert found.remedy.for_training("digits").startswith(
        "No softmax at the end of the network, as in the layer string"
    )


def step_with_its_own_loss(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
    optimizer.zero_grad()
    value = functional.cross_entropy(model(batch[0]).softmax(-1), batch[1])
    value.backward()
    optimizer.step()
    return value


def test_softmax_in_the_step_itself() -> None:
    (found,) = asked(DOUBLE_SOFTMAX, perceptron(), digits(), step=step_with_its_own_loss, optimizer=quick_adam)
    assert found.severity == "error"


def binary() -> DataLoader[Any]:
    x, y = next(iter(digits(256)))
    return DataLoader(TensorDataset(x, (y > 4).float()), 32, shuffle=True)


class OneScore(nn.Module):
    def __init__(self, end: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.end = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 1)), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.body(x)).squeeze(1)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "end",
    [nn.Sigmoid(), torch.sigmoid, lambda x: x.sigmoid(), lambda x: 1 / (1 + torch.exp(-x)), functional.hardsigmoid],
)
def test_sigmoid_before_a_loss_that_has_one(end: Any) -> None:
    (found,) = asked(DOUBLE_SOFTMAX, OneScore(end), binary(), loss=nn.BCEWithLogitsLoss(), optimizer=quick_adam)
    assert found.severity == "error"
    assert "0.50 to 0.73 only" in found.measured


class Attending(nn.Module):
    """A softmax within, and scores at the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.keys, self.values, self.out = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, 0]
        weights = (self.keys(rows) @ rows.transpose(1, 2)).softmax(-1)
        return self.out((weights @ self.values(rows)).relu().flatten(1))


def test_a_softmax_within_the_network_and_a_sigmoid_with_its_loss_are_right() -> None:
    assert not asked(DOUBLE_SOFTMAX, Attending(), digits(), optimizer=quick_adam)
    assert not asked(DOUBLE_SOFTMAX, OneScore(nn.Sigmoid()), binary(), loss=nn.BCELoss(), optimizer=quick_adam)
