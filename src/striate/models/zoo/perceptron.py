"""Perceptron. Rosenblatt, "The perceptron: a probabilistic model for information storage", Psychological Review, 1958.

New: weights that are learned from examples, by a rule that is proven to end where it can (Novikoff 1962). One linear
layer from all inputs to all outputs: 7,850 parameters on 28×28 images of 10 classes; about 92 % on MNIST by gradient.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from striate.models.from_spec import build_network
from striate.models.learning_rule import LearningRule
from striate.models.rules.single_layer import perceptron_rule


class Perceptron(nn.Sequential):
    """One fully connected layer, which learns by gradient like any other, or by Rosenblatt's rule."""

    def learning_rule(self) -> LearningRule:
        """The rule, at a rate that lets a mistake change the score of its class by about 1."""
        inputs = linear_units(self).in_features
        return LearningRule(
            "the perceptron rule (Rosenblatt 1958; Kesler's form for K classes)",
            rate=rounded(1 / (inputs + 1)),
            why=f"1 / E‖x‖² for {inputs} standardized inputs and a bias: a mistake changes a score by about 1",
            epochs=20,
        )

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """`perceptron_rule` on each sample in turn."""
        del progress
        perceptron_rule(linear_units(self), inputs.flatten(1), targets, rate)


def perceptron(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """One fully connected layer on inputs of any shape: (N, *input_shape) to (N, outputs)."""
    return Perceptron(OrderedDict(build_network(f"fc({outputs})", input_shape).named_children()))


def linear_units(network: nn.Sequential) -> nn.Linear:
    """The one layer with weights."""
    units = network[-1]
    assert isinstance(units, nn.Linear)
    return units


def rounded(rate: float) -> float:
    """Two digits: a rate that can be typed."""
    return float(f"{rate:.2g}")
