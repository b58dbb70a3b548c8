"""Points in images: are their maps drawn at the right scale, do left and right change places, is x before y?"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from striate.doctor.checks.data.targets.keypoints import points_are_across_first
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


class Pointed(nn.Module):
    """Finds points by scores of all cells, for records in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, records: Any) -> Tensor:
        scores: Tensor = self.scores(torch.stack([record["image"] for record in records])).flatten(2)
        return scores


@pytest.mark.parametrize("exchanged", [False, True])
def test_points_are_x_and_y_by_the_cells_that_the_loss_asks_for(exchanged: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randint(0, 12, (32, 2, 2), generator=generator).float()
    records = [{"image": torch.rand(1, 8, 12, generator=generator), "points": p.clamp(max=7)} for p in points]

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = torch.stack([record["points"] for record in batch]).long().unbind(-1)
        if exchanged:
            x, y = y, x
        value = functional.cross_entropy(model(batch).flatten(0, 1), (y * 12 + x).flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Pointed()
    setup = make_setup(model, DataLoader(cast("Any", records), 16, collate_fn=list), step=step, task="regress")
    assert points_are_across_first(Evidence(setup, Clock(10.0))) is not exchanged
