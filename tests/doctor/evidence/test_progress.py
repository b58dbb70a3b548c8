"""How far a trial came: from what a constant prediction gives, or its first loss, towards zero."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import chance_of, floor_of, number
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import make_setup


def test_the_best_constant_of_counts_is_a_logarithm() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.poisson(torch.full((256, 1), 20.0), generator=generator)
    loader = DataLoader(TensorDataset(torch.randn(256, 4, generator=generator), counts), 64)
    setup = make_setup(nn.Linear(4, 1), loader, None, loss=nn.PoissonNLLLoss(), task="regress")
    with state_preserved(setup):
        trial = Evidence(setup, Clock(120.0)).trial
        chance = chance_of(trial, counts)
    mean = counts.mean()
    assert chance == pytest.approx((mean - mean * mean.log()).item(), rel=1e-3)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("smoothing", "beside"), [(0.2, 0.0), (0.2, 1.0), (0.0, 0.0)])
def test_smoothed_labels_have_a_lowest_loss(reduction: Any, smoothing: float, beside: float) -> None:
    x, y = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)), torch.arange(64) % 5

    def loss(outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        known = functional.cross_entropy(outputs, target, reduction=reduction, label_smoothing=smoothing)
        return known.sum() + beside * outputs.square().sum()

    setup = make_setup(nn.Linear(4, 5), DataLoader(TensorDataset(x, y), 16), None, loss=loss)
    with state_preserved(setup):
        evidence = Evidence(setup, Clock(120.0))
        floor = floor_of(evidence.calls, evidence.trial.losses[0])
    right = (functional.one_hot(torch.arange(5), 5) * (1 - smoothing) + smoothing / 5).clamp_min(1e-30).log()
    lowest = functional.cross_entropy(right, torch.arange(5), label_smoothing=smoothing).item()
    wanted = 0.0 if beside or not smoothing else lowest * (1 if reduction == "mean" else 16)
    assert floor == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize(
    ("value", "text"), [(0.12345, "0.123"), (float("nan"), "NaN or Inf"), (float("inf"), "NaN or Inf")]
)
def test_a_loss_that_is_not_finite_is_called_so(value: float, text: str) -> None:
    assert number(value) == text
