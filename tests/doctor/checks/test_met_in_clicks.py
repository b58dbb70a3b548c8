"""Rare clicks whose loss is weighed in the step, and graphs in batches that are objects: faults that were met in
scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_met_in_second_heads import stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.class_balance import IMBALANCE

X = torch.randn(640, 4, generator=torch.Generator().manual_seed(0))
CLICKS = (X[:, 0] > 1.4).float()
RARE = float((1 - CLICKS).sum() / CLICKS.sum())


def loss_of(kind: str, logits: Tensor, clicks: Tensor) -> Tensor:
    weight = 1 + (RARE - 1) * clicks
    if kind == "positives":
        return functional.binary_cross_entropy_with_logits(logits, clicks, pos_weight=torch.tensor(RARE))
    if kind == "samples":
        return functional.binary_cross_entropy(logits.sigmoid(), clicks, weight=weight)
    each = functional.binary_cross_entropy_with_logits(logits, clicks, reduction="none")
    return (each * weight if kind == "by hand" else each).mean()


@pytest.mark.parametrize("kind", ["positives", "samples", "by hand", "none"])
def test_rare_positives_that_the_step_weighs_are_not_imbalanced(kind: str) -> None:
    """Also where the first batch has none of them."""
    order = CLICKS.argsort(stable=True)
    rows = torch.cat([order[:16], order[16:][torch.randperm(624, generator=torch.Generator().manual_seed(0))]])
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, loss_of(kind, model(batch[0]), batch[1]), optimizer)

    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-3), "step": step}
    said = asked(IMBALANCE, model, DataLoader(TensorDataset(X[rows], CLICKS[rows]), 16), **options)
    assert [one.code for one in said] == ["data.imbalance"] * (kind == "none")
