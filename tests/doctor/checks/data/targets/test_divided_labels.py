"""`data.target-scale`: labels of 0 and 1 that are divided by 255, as if they were 0 and 255."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, stepped
from striate.doctor.checks.data.targets.divided_labels import DIVIDED_LABELS


@pytest.mark.parametrize(
    ("stored", "in_step", "told"),
    [(255, 1, True), (1, 255, True), (1, 1, False), (10, 1, False), ("rates", 1, False), ("background", 1, False)],
)
def test_masks_of_0_and_1_that_are_divided_by_255(stored: Any, in_step: int, told: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        logits = model(batch[0])
        return stepped(functional.binary_cross_entropy_with_logits(logits, batch[1] / in_step), optimizer)

    torch.manual_seed(0)
    x = torch.randn(128, 1, 8, 8)
    if stored == "rates":
        y = torch.rand_like(x) / 255
    elif stored == "background":
        y = torch.zeros_like(x)
    else:
        y = (x > 0.5).float() / stored
    model = nn.Conv2d(1, 1, 3, padding=1)
    found = asked(DIVIDED_LABELS, model, DataLoader(TensorDataset(x, y), 16), optimizer=adam, step=step)
    assert [one.code for one in found] == ["data.target-scale"] * told
