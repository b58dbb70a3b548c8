"""Madaline rule I: committees of ADALINEs that decide by majority."""

from __future__ import annotations

import torch
from torch import nn

from striate.layers.hard_threshold import hard_threshold
from striate.models.rules.least_mean_squares import signs_of_classes


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
