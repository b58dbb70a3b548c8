"""What simple models make of the data, each sample judged by models that were fitted without it: an opinion on labels
that owes nothing to the network."""

from __future__ import annotations

import torch

from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.simple_models import fit_simple_models


def test_the_reference_knows_no_answer_beforehand() -> None:
    """Copies of a sample on both sides of a fold would tell its label."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(100, 8, generator=generator), torch.arange(100) % 2
    reference = fit_simple_models(x.repeat(5, 1), y.repeat(5), Clock(30.0))
    assert len(reference.rows) == 100
    assert all(abs(reference.accuracy(name) - 0.5) < 0.2 for name in reference.out_of_fold)
