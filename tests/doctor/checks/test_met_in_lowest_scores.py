"""Means of scores and networks of zeros: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
import torch
from asked import asked, digits
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.eval.best import WORST_KEPT
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
