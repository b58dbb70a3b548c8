"""The rule of Widrow and Hoff: least mean squares (LMS)."""

from __future__ import annotations

import torch
from torch import nn

from striate.models.rules.perceptron_rule import CHUNK, add_outer


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
