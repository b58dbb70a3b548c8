"""The user's own cross entropy that takes the mean over classes instead of the sum."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from for_checks.asked import digits, perceptron
from for_checks.steps import Own, own_loss
from striate.doctor.checks.loss.task.shared_among_classes import shared_among_classes
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05)


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-4)


def soft(outputs: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """The terms of a cross entropy, by sample and class."""
    targets = torch.full_like(outputs, smoothing / 9)
    targets.scatter_(1, labels[:, None], 1 - smoothing)
    return -targets * outputs.log_softmax(1)


def smoothed_mean(outputs: Tensor, labels: Tensor) -> Tensor:
    return soft(outputs, labels, 0.1).mean()


def mean(outputs: Tensor, labels: Tensor) -> Tensor:
    return soft(outputs, labels, 0.0).mean()


def smoothed(outputs: Tensor, labels: Tensor) -> Tensor:
    return soft(outputs, labels, 0.1).sum(1).mean()


def in_tenths_of_squares(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.softmax(1) - functional.one_hot(labels, 10)).square().mean()


@pytest.mark.parametrize(
    ("loss", "optimizer", "wrong"),
    [
        (smoothed_mean, sgd, True),
        (mean, sgd, True),
        (mean, adam, False),
        (smoothed, sgd, False),
        (in_tenths_of_squares, sgd, False),
    ],
)
def test_a_cross_entropy_is_summed_over_classes(loss: Own, optimizer: Any, wrong: bool) -> None:
    setup = make_setup(perceptron(), digits(), None, step=own_loss(loss), optimizer=optimizer)
    found = shared_among_classes(Evidence(setup, Clock(120.0)))
    assert (found is not None) is wrong
    assert found is None or "number of classes, 10" in found.measured


def test_a_mean_over_classes_is_let_pass_where_longer_steps_gain_nothing() -> None:
    def long_steps(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=3.0, momentum=0.9)

    setup = make_setup(perceptron(), digits(), None, step=own_loss(mean), optimizer=long_steps)
    assert shared_among_classes(Evidence(setup, Clock(120.0))) is None
