"""Perceptron and Adaline: one linear layer, and the first two rules that learned its weights.

Perceptron: Rosenblatt, "The perceptron: a probabilistic model for information storage", Psychological Review, 1958.
New: weights that are learned from examples, by a rule that is proven to end where it can (Novikoff 1962): on a
mistake, the sample is added to the right unit and taken from the predicted one. About 92 % on MNIST by gradient.

Adaline: Widrow and Hoff, "Adaptive switching circuits", IRE WESCON Convention Record, 1960. New: the error is taken
before the threshold, so that it says by how much and not only whether: the least mean squares rule (LMS), a gradient
descent from single samples.

Both have 7,850 parameters on 28×28 images of 10 classes.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from striate.models.from_spec import build_network
from striate.models.learning_rule import LearningRule
from striate.wording import several

CHUNK = 256
"""Samples whose products with each other are computed at once: a table of 256 × 256."""


@torch.no_grad()
def perceptron_rule(units: nn.Linear, x_NF: torch.Tensor, targets: torch.Tensor, rate: float) -> int:
    """W += rate · (t − y) xᵀ and b += rate · (t − y), sample after sample; returns how many were mistaken.

    t and y are one-hot: the class of the sample (N,), and the class answered, the largest of W x + b; so a right answer
    changes nothing. With two classes this is the rule of Rosenblatt for W₁ − W₀. With K classes it is Kesler's: it
    moves what decides, the comparison of two units, whereas one against rest has each unit separate its class from all
    others, which can be impossible where comparisons are not. From zero weights the rate has no influence on answers,
    and the mistakes on separable samples are at most (R / γ)² (Novikoff 1962).

    What is learned from one sample changes the answers to the next by their inner product; with these computed at once,
    the loop is over numbers of one sample, and the result that of going through the samples one by one.
    Sources: Rosenblatt, Principles of Neurodynamics, 1962; Nilsson, Learning Machines, 1965 (Kesler's construction).
    """
    mistakes = 0
    for x, classes in zip(x_NF.split(CHUNK), targets.split(CHUNK), strict=True):
        scores, products = units(x).cpu(), (x @ x.T + 1).cpu() * rate
        changes = torch.zeros_like(scores)
        for i, right in enumerate(classes.tolist()):
            answer = int(scores[i].argmax())
            if answer == right:
                continue
            mistakes += 1
            changes[i, right], changes[i, answer] = rate, -rate
            scores[i + 1 :, right] += products[i, i + 1 :]
            scores[i + 1 :, answer] -= products[i, i + 1 :]
        add_outer(units, changes.to(x.device), x)
    return mistakes


@torch.no_grad()
def add_outer(units: nn.Linear, changes_NK: torch.Tensor, x_NF: torch.Tensor) -> None:
    """W += Σ change xᵀ, b += Σ change, over the samples."""
    units.weight.add_(changes_NK.T @ x_NF)
    if units.bias is not None:
        units.bias.add_(changes_NK.sum(0))


def signs_of_classes(targets: torch.Tensor, count: int) -> torch.Tensor:
    """(N, count) float32: +1 for the class of the sample, −1 for all others."""
    return 2.0 * nn.functional.one_hot(targets, count).float() - 1


@torch.no_grad()
def least_mean_squares(units: nn.Linear, x_NF: torch.Tensor, wanted_NK: torch.Tensor, rate: float) -> None:
    """W += rate · (d − s) xᵀ and b += rate · (d − s), sample after sample; s = W x + b is the analog sum, d is wanted.

    It converges in the mean where rate < 2 / λmax, λmax being the largest eigenvalue of E[x xᵀ] (x with the 1 of the
    bias), and surely where rate < 2 / E‖x‖², since their sum E‖x‖² is no less than the largest.

    Errors of one chunk solve (I + rate · L) E = D − S, L being the inner products of each sample with those before it:
    forward substitution is what going through the samples one by one computes.
    Source: Widrow and Hoff, "Adaptive switching circuits", IRE WESCON, 1960; the bound: Widrow and Stearns, Adaptive
    Signal Processing, 1985.
    """
    for x, wanted in zip(x_NF.split(CHUNK), wanted_NK.split(CHUNK), strict=True):
        before = (x @ x.T + (units.bias is not None)).tril(-1)
        system = torch.eye(len(x), dtype=x.dtype, device=x.device) + rate * before
        errors = torch.linalg.solve_triangular(system, wanted - units(x), upper=False, unitriangular=True)
        add_outer(units, rate * errors, x)


class Perceptron(nn.Sequential):
    """One fully connected layer, which learns by gradient like any other, or by Rosenblatt's rule."""

    def learning_rule(self) -> LearningRule:
        """The rule, at a rate that lets a mistake change the score of its class by about 1."""
        inputs = linear_units(self).in_features
        return LearningRule(
            "the perceptron rule (Rosenblatt 1958; Kesler's form for K classes)",
            rate=rounded(1 / (inputs + 1)),
            why=f"1 / E‖x‖² for {several(inputs, 'standardized input')} and a bias: a mistake changes a score by "
            "about 1",
            epochs=20,
        )

    def learn(self, inputs: torch.Tensor, targets: torch.Tensor, rate: float, progress: float) -> None:
        """`perceptron_rule` on each sample in turn."""
        del progress
        perceptron_rule(linear_units(self), inputs.flatten(1), targets, rate)


def perceptron(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """One fully connected layer on inputs of any shape: (N, *input_shape) to (N, outputs)."""
    return Perceptron(OrderedDict(build_network(f"fc({outputs})", input_shape).named_children()))


class Adaline(nn.Sequential):
    """One fully connected layer, which learns by gradient like any other, or by the rule of Widrow and Hoff."""

    def learning_rule(self) -> LearningRule:
        """The rule, at a tenth of the largest rate that is surely stable."""
        inputs = linear_units(self).in_features
        return LearningRule(
            "least mean squares on targets of ±1 (Widrow and Hoff 1960)",
            rate=rounded(0.2 / (inputs + 1)),
            why=f"a tenth of 2 / E‖x‖² for {several(inputs, 'standardized input')} and a bias, below which LMS is "
            "stable",
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


def linear_units(network: nn.Sequential) -> nn.Linear:
    """The one layer with weights."""
    units = network[-1]
    assert isinstance(units, nn.Linear)
    return units


def rounded(rate: float) -> float:
    """Two digits: a rate that can be typed."""
    return float(f"{rate:.2g}")
