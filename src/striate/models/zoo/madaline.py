"""Madaline, many ADALINEs. Widrow, "Generalization and information storage in networks of Adaline neurons", 1962 (fixed
majority); Winter and Widrow, "Madaline Rule II: a training algorithm for neural networks", IEEE ICNN, 1988.

New: more than one layer of learning units, with hard thresholds between them, through which no gradient comes; so which
unit has to change is found by trial. 400 hidden units: 318,010 parameters on 28×28 images of 10 classes.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.activations import HardThreshold
from striate.layers.neocognitron import full_precision
from striate.models.initialization.initialize import initialize_output
from striate.models.learning_rule import LearningRule
from striate.models.rules.madaline import majority_rule, minimal_disturbance

_RATE = 0.3
_WHY = "a unit that has to change gets an analog sum of ±0.3; hidden sums begin with a standard deviation of 1"
_EPOCHS = 12


class Majority(nn.Module):
    """The vote of committees: answers of ±1 and the analog sums behind them, (N, committees × members) each, to
    (N, committees).

    The mean answer, −1 to 1. Equal majorities are told apart by the mean of their sums, which adds less than a vote.
    """

    def __init__(self, committees: int) -> None:
        super().__init__()
        self.committees = committees

    def forward(self, answers: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
        votes, certainty = (x.unflatten(1, (self.committees, -1)).mean(2) for x in (answers, sums))
        members = answers.shape[1] // self.committees
        weighed: torch.Tensor = votes + torch.tanh(certainty) / (2 * members)
        return weighed

    def extra_repr(self) -> str:
        return str(self.committees)


class CommitteeMadaline(nn.Module):
    """A committee of ADALINEs for each class, whose majority answers; the class of the largest majority wins."""

    def __init__(self, features: int, outputs: int, members: int) -> None:
        super().__init__()
        self.hidden = _hidden_units(features, outputs * members)
        self.threshold = HardThreshold()
        self.majority = Majority(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums = _sums(self.hidden, x)
        votes: torch.Tensor = self.majority(self.threshold(sums), sums)
        return votes

    def learning_rule(self) -> LearningRule:
        """Madaline rule I."""
        return LearningRule("Madaline rule I (Widrow 1962)", _RATE, _WHY, _EPOCHS, only=True)

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """`majority_rule` on each sample in turn."""
        del progress
        majority_rule(self.hidden, self.majority.committees, inputs.flatten(1), targets, rate)


class Madaline(nn.Module):
    """A layer of ADALINEs with hard thresholds, and one ADALINE a class on their answers; the largest sum wins."""

    def __init__(self, features: int, outputs: int, units: int) -> None:
        super().__init__()
        self.hidden = _hidden_units(features, units)
        self.threshold = HardThreshold()
        self.output = nn.Linear(units, outputs)
        initialize_output(self.output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sums: torch.Tensor = self.output(self.threshold(_sums(self.hidden, x)))
        return sums

    def learning_rule(self) -> LearningRule:
        """Madaline rule II."""
        return LearningRule("Madaline rule II (Winter and Widrow 1988)", _RATE, _WHY, _EPOCHS, only=True)

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """`minimal_disturbance` on each sample in turn."""
        del progress
        minimal_disturbance(self.hidden, self.output, inputs.flatten(1), targets, rate)


def madaline(input_shape: tuple[int, ...], outputs: int, units: int = 400, logic: str = "adaptive") -> nn.Module:
    """`units` ADALINEs on inputs of any shape: (N, *input_shape) to (N, outputs).

    `logic` is what comes after them: `adaptive`, one further ADALINE a class on all their answers (rule II), or
    `majority`, a fixed vote of units / outputs of them for each class, an odd number (rule I). Raises ModelError where
    there are fewer units than classes to vote for.
    """
    features = math.prod(input_shape)
    if logic == "adaptive":
        return Madaline(features, outputs, units)
    members = (units // outputs - 1) // 2 * 2 + 1
    if members < 1:
        raise ModelError(
            "madaline",
            f"{units} units for {outputs} committees",
            "at least one for each class",
            f'write "madaline(units={9 * outputs},logic=majority)"',
        )
    return CommitteeMadaline(features, outputs, members)


def _sums(units: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    """The analog sums in full precision: a threshold makes a large error of a small one."""
    with full_precision(x.device):
        sums: torch.Tensor = units(x.flatten(1))
    return sums


def _hidden_units(features: int, count: int) -> nn.Linear:
    """Sums of standardized inputs begin with a variance of 1."""
    units = nn.Linear(features, count)
    nn.init.normal_(units.weight, 0.0, 1 / math.sqrt(features))
    nn.init.zeros_(units.bias)
    return units
