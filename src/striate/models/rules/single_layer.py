"""The rule of Widrow and Hoff: least mean squares (LMS).
Rosenblatt's rule: on a mistake, the sample is added to the right unit and taken from the one that answered.
"""

from __future__ import annotations

import torch
from torch import nn

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
