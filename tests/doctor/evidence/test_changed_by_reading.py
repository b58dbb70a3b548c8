"""Data sets that change the images which they hold when they are asked for a sample."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from striate.doctor.evidence.changed_by_reading import targets_changed_by_reading


class Mirrored(Dataset[Any]):
    """Records whose image is mirrored at random, and whose points with it: `copied` before, or in place."""

    def __init__(self, copied: bool) -> None:
        self.copied = copied
        self.records = [{"image": np.random.rand(8, 8), "points": np.array([[1.0, 2.0], [5.0, 3.0]])} for _ in range(8)]

    def __len__(self) -> int:
        return 8

    def __getitem__(self, number: int) -> Any:
        image, points = self.records[number].values()
        points = points.copy() if self.copied else points
        if torch.rand(()) < 0.5:
            image = image[:, ::-1].copy()
            points[:, 0] = 7 - points[:, 0]
        return {"image": torch.tensor(image), "points": torch.tensor(points)}


@pytest.mark.parametrize("copied", [True, False])
def test_points_that_a_data_set_mirrors_in_place_stay_so(copied: bool) -> None:
    torch.manual_seed(0)
    data = Mirrored(copied)
    changed = targets_changed_by_reading(DataLoader(data, 4))
    assert (changed is None) == copied
    assert [record["points"][0, 0] for record in data.records] == [1.0] * 8 or copied
