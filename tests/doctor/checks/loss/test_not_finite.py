"""`loss.not-finite`: is the loss or its gradient NaN or Inf, though the learning rate is not the cause?"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron, sgd
from striate.doctor.checks.loss.not_finite import NOT_FINITE


def test_the_logarithm_of_nothing_is_named() -> None:
    def likelihood(outputs: Tensor, y: Tensor) -> Tensor:
        return -torch.log(torch.relu(outputs))[torch.arange(len(y)), y].mean()

    (found,) = asked(NOT_FINITE, perceptron(), digits(), loss=likelihood)
    assert (found.code, found.severity) == ("loss.not-finite", "error")
    assert "inf" in found.measured
    assert "1e-8" in found.remedy


def test_a_slope_that_is_infinite_is_traced_to_its_function() -> None:
    def distance(outputs: Tensor, y: Tensor) -> Tensor:
        nothing = torch.sqrt((outputs * 0).square().sum(1)).mean()
        return functional.cross_entropy(outputs, y) + nothing

    (found,) = asked(NOT_FINITE, perceptron(), digits(), loss=distance)
    assert "in the backward pass it starts at pow" in found.measured  # infinity, of the root, times 0
    assert "gradients are NaN or Inf although the loss is" in found.measured


LOSS = nn.CrossEntropyLoss()


def test_weights_that_are_no_numbers_are_named() -> None:
    model = perceptron()
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    (found,) = asked(NOT_FINITE, model, digits(), loss=LOSS)
    assert found.where == "1.weight"


def test_perfect_predictions_with_a_loss_of_nan_are_a_warning() -> None:
    x = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, (x[:, :1] > 0).float()), 32)
    model = nn.Sequential(nn.Linear(64, 1), nn.Sigmoid())

    def own(p: Tensor, y: Tensor) -> Tensor:
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()

    (found,) = asked(NOT_FINITE, model, loader, loss=own)
    assert found.severity == "warning"
    assert not asked(NOT_FINITE, model, loader, loss=nn.BCELoss())


def test_weights_that_ran_away_are_no_matter_of_the_loss() -> None:
    model = perceptron(depth=3)

    def squares(outputs: Tensor, y: Tensor) -> Tensor:
        return (outputs - functional.one_hot(y, 10)).square().sum(1).mean()

    assert not asked(NOT_FINITE, model, digits(), loss=squares, optimizer=sgd(model, 50.0))
