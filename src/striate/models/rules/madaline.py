"""Madaline rule I: committees of ADALINEs that decide by majority.
Madaline rule II: which hidden unit has to change is found by trial, the least certain one first.
"""

from __future__ import annotations

import torch
from torch import nn

from striate.layers.activations import hard_threshold
from striate.models.rules.single_layer import signs_of_classes


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
