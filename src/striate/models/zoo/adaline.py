"""Adaline. Widrow and Hoff, "Adaptive switching circuits", IRE WESCON Convention Record, 1960.

New: the error is taken before the threshold, so that it says by how much and not only whether: the least mean squares
rule (LMS), a gradient descent from single samples. The units are those of the perceptron: 7,850 parameters on 28×28
images of 10 classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from striate.models.from_spec import build_network
from striate.models.learning_rule import LearningRule
from striate.models.rules.single_layer import least_mean_squares, signs_of_classes
from striate.models.zoo.perceptron import linear_units, rounded


class Adaline(nn.Sequential):
    """One fully connected layer, which learns by gradient like any other, or by the rule of Widrow and Hoff."""

    def learning_rule(self) -> LearningRule:
        """The rule, at a tenth of the largest rate that is surely stable."""
        inputs = linear_units(self).in_features
        return LearningRule(
            "least mean squares on targets of ±1 (Widrow and Hoff 1960)",
            rate=rounded(0.2 / (inputs + 1)),
            why=f"a tenth of 2 / E‖x‖² for {inputs} standardized inputs and a bias, below which LMS is stable",
            epochs=20,
        )

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """`least_mean_squares` on each sample in turn: +1 is wanted of the unit of its class, −1 of the others."""
        del progress
        units = linear_units(self)
        least_mean_squares(units, inputs.flatten(1), signs_of_classes(targets, units.out_features), rate)


def adaline(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """One ADALINE a class on inputs of any shape, its analog sum as the output: (N, *input_shape) to (N, outputs)."""
    return Adaline(OrderedDict(build_network(f"fc({outputs})", input_shape).named_children()))
