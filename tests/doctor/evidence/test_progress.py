"""How far a trial came: from what a constant prediction gives, or its first loss, towards zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.progress import chance_of
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
