"""Means of scores, networks of zeros and hinges at zero: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits
from test_met_in_galleries import Embedding
from test_met_in_second_heads import asked_or_silent, stepped
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.model.no_nonlinearity import NO_NONLINEARITY


@pytest.mark.parametrize(
    ("made", "sign", "right"),
    [
        ("(accuracy + iou) / 2", "<", False),
        ("(accuracy + iou) / 2", ">", True),
        ("0.5 * rmse + mae", ">", False),
        ("accuracy + rmse", "<", True),
        ("accuracy - iou", "<", True),
        ("2 / accuracy", "<", True),
        ("weight * accuracy", "<", True),
    ],
)
def test_a_mean_of_shares_is_best_where_it_is_highest(made: str, sign: str, right: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n",
        f"    score = {made}\n    if score {sign} best:\n        best = score\n",
    )
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


class Residual(nn.Module):
    """Its branch is straight, or bends, but not with weights of zero, which stay there."""

    def __init__(self, straight: bool) -> None:
        super().__init__()
        self.straight, self.first, self.last = straight, nn.Linear(64, 20), nn.Linear(20, 10)
        for parameter in () if straight else self.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1))
        bent = functional.relu(hidden) - (functional.relu(-hidden) if self.straight else 0)
        return x.flatten(1)[:, 20:30] + self.last(bent)


@pytest.mark.parametrize("straight", [True, False])
def test_weights_that_stay_at_zero_hide_what_bends(straight: bool) -> None:
    torch.manual_seed(0)
    model = Residual(straight)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    said = asked(NO_NONLINEARITY, model, digits(), loss=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert [one.code for one in said] == ["model.no-nonlinearity"] * straight


@pytest.mark.parametrize("swapped", [True, False])
def test_a_hinge_of_hardest_triplets_that_is_zero_in_most_steps(swapped: bool) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch
        z, same = model(x), y[:, None] == y
        apart = (2 - 2 * z @ z.T).clamp(min=1e-6).sqrt()
        farthest, nearest = apart.masked_fill(~same, -1).max(1).values, apart.masked_fill(same, 10).min(1).values
        return stepped(model, functional.relu((farthest - nearest) * (-1 if swapped else 1) + 0.05).mean(), optimizer)

    torch.manual_seed(0)
    model = Embedding()
    optimizer = torch.optim.Adam(model.parameters(), 1e-4)
    train = DataLoader(TensorDataset(torch.randn(128, 1, 8, 8), torch.arange(128) % 3), 32)
    said = asked_or_silent(PAIRS_SWAPPED, model, train, step=step, optimizer=optimizer)
    assert ["it is 0 in" in one.measured for one in said] == [True] * swapped
