"""Madaline, many ADALINEs. Widrow, "Generalization and information storage in networks of Adaline neurons", 1962 (fixed
majority); Winter and Widrow, "Madaline Rule II: a training algorithm for neural networks", IEEE ICNN, 1988.

New: more than one layer of learning units, with hard thresholds between them, through which no gradient comes; so which
unit has to change is found by trial. 400 hidden units: 318,010 parameters on 28×28 images of 10 classes.
Rule I is for committees of ADALINEs that decide by majority; rule II finds by trial which hidden unit has to change,
the least certain one first.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from striate.errors import ModelError
from striate.layers.activations import HardThreshold, hard_threshold
from striate.layers.neocognitron import full_precision
from striate.models.initialization.initialize import initialize_output
from striate.models.learning_rule import LearningRule
from striate.models.zoo.perceptron import signs_of_classes
from striate.wording import several


@torch.no_grad()
def majority_rule(units: nn.Linear, committees: int, x_NF: torch.Tensor, targets: torch.Tensor, rate: float) -> int:
    """Of each committee whose majority is wrong, the fewest members that turn it change their answer: those whose
    analog sums are nearest to zero. Sample after sample; returns how many committees were wrong in all.

    `units` are committees × members ADALINEs, member by member within committee by committee; the committee of the
    sample's class should say +1, all others −1. A member that has to change gets the sum ±`rate` for this sample, which
    is the least change of its weights that gives it (α-LMS with α = 1): the disturbance of what it knows is minimal.
    Source: Widrow, "Generalization and information storage in networks of Adaline neurons", 1962; Widrow and Lehr,
    "30 years of adaptive neural networks", Proceedings of the IEEE 78, 1990.
    """
    wanted_NK = signs_of_classes(targets, committees)
    powers = x_NF.square().sum(1) + 1
    wrong_committees = 0
    for x, wanted, power in zip(x_NF, wanted_NK, powers, strict=True):
        sums = units(x).view(committees, -1)
        votes = hard_threshold(sums).sum(1) * wanted
        wrong = (votes <= 0).nonzero().flatten().tolist()
        wrong_committees += len(wrong)
        changes = torch.zeros_like(sums)
        for k in wrong:
            against = (hard_threshold(sums[k]) != wanted[k]).nonzero().flatten()
            # Each of them takes one vote from the others' side to this one: the balance moves by two.
            fewest = int(-votes[k]) // 2 + 1
            chosen = against[sums[k, against].abs().argsort(stable=True)[:fewest]]
            changes[k, chosen] = wanted[k] * rate - sums[k, chosen]
        if wrong:
            steps = changes.flatten() / power
            units.weight.add_(steps[:, None] * x)
            units.bias.add_(steps)
    return wrong_committees


TRIALS = 20
"""Hidden units that are tried for a sample, of those whose sums are nearest to zero."""


@torch.no_grad()
def minimal_disturbance(
    hidden: nn.Linear, output: nn.Linear, x_NF: torch.Tensor, targets: torch.Tensor, rate: float
) -> int:
    """Madaline rule II for two layers of ADALINEs with hard thresholds; returns the Hamming errors before learning.

    Sample after sample: the output of the sample's class should be +1, all others −1. While outputs are wrong, the
    hidden units are tried in the order of their certainty, nearest to zero first: the answer of one is reversed, and
    where fewer outputs are then wrong (their Hamming distance from what is wanted), it learns to answer so; else it
    stays. Outputs that are still wrong learn last. To learn is to get the analog sum ±`rate` for this sample by the
    least change of weights, w += (±rate − s) x / ‖x‖² (α-LMS with α = 1). Reversals of two units at once, which the
    paper has too, are not tried. So no sample has more wrong outputs after its turn than before: it has none.
    Source: Winter and Widrow, "Madaline Rule II: a training algorithm for neural networks", IEEE ICNN 1988.
    """
    wanted_NK = signs_of_classes(targets, output.out_features)
    powers = x_NF.square().sum(1) + 1
    errors = 0
    for x, wanted, power in zip(x_NF, wanted_NK, powers, strict=True):
        sums = hidden(x)
        answers = hard_threshold(sums)
        outputs = output(answers)
        wrong = int((hard_threshold(outputs) != wanted).sum())
        errors += wrong
        if not wrong:
            continue
        reversed_units, outputs = _reversals(sums, answers, outputs, output.weight, wanted)
        if reversed_units:
            steps = (-answers[reversed_units] * rate - sums[reversed_units]) / power
            hidden.weight[reversed_units] += steps[:, None] * x
            hidden.bias[reversed_units] += steps
            answers[reversed_units] *= -1
        still = hard_threshold(outputs) != wanted
        steps = torch.where(still, wanted * rate - outputs, 0) / (len(answers) + 1)
        output.weight.add_(steps[:, None] * answers)
        output.bias.add_(steps)
    return errors


def _reversals(
    sums: torch.Tensor, answers: torch.Tensor, outputs: torch.Tensor, weight: torch.Tensor, wanted: torch.Tensor
) -> tuple[list[int], torch.Tensor]:
    """Which hidden units are to answer the other way, and the outputs then."""
    order = sums.abs().argsort(stable=True)[:TRIALS]
    effects = -2 * answers[order, None] * weight[:, order].T
    chosen: list[int] = []
    begin = 0
    while begin < len(order):
        wrong = int((hard_threshold(outputs) != wanted).sum())
        trials = (hard_threshold(outputs + effects[begin:]) != wanted).sum(1)
        better = (trials < wrong).nonzero()
        if not len(better):
            break
        place = begin + int(better[0])
        chosen.append(int(order[place]))
        outputs = outputs + effects[place]
        begin = place + 1
    return chosen, outputs


_RATE = 0.3
_WHY = "a unit that must change gets an analog sum of ±0.3; hidden sums start with a standard deviation of 1"
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
            f"{several(units, 'unit')} for {outputs} committees",
            "at least one unit for each class",
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
