"""Masks and maps that do or do not go along with images that are flipped, enlarged and cropped."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from striate.doctor.checks.data.moved.moved_roughly import left_roughly
from striate.doctor.checks.data.moved.targets_moved import _MOVES, _Samples, _targets_stay

SIZE = 24


class Blobs(Dataset[dict[str, torch.Tensor]]):
    """A rectangle off the center, zoomed and cropped at random."""

    def __init__(self, together: bool, flips: bool = True) -> None:
        self.together, self.flips = together, flips
        self.random = np.random.default_rng(0)

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        own = np.random.default_rng(number)
        top, left = own.integers(1, 12, 2)
        mask = torch.zeros(SIZE, SIZE)
        mask[top : top + 5, left : left + 9] = 1 + number % 2
        image = torch.stack([mask, 0.3 * torch.linspace(-1, 1, SIZE).expand(SIZE, SIZE)])
        if self.flips and self.random.random() < 0.5:
            image = image.flip(-1)
            mask = mask.flip(-1) if self.together else mask
        large = round(SIZE * self.random.uniform(1, 1.4))
        row, column = self.random.integers(0, large - SIZE + 1, 2)
        both = torch.cat([image, mask[None]])[None]
        both = interpolate(both, (large, large))[0, :, row : row + SIZE, column : column + SIZE]
        return {"image": both[:-1] + 0.05 * float(self.random.normal()), "mask": both[-1].long()}


@pytest.mark.parametrize(("together", "flips"), [(False, True), (True, True), (True, False)])
def test_masks_of_images_that_are_enlarged_too(together: bool, flips: bool) -> None:
    data = Blobs(together, flips)
    found = left_roughly([[data[number] for _ in range(6)] for number in range(24)], _MOVES)
    assert (found is None) == together
    assert found is None or found[0] == "left and right exchanged"


@pytest.mark.parametrize("follows", [True, False])
def test_a_map_of_fewer_pixels_goes_along(follows: bool) -> None:
    image, heat = torch.rand(3, 16, 16), torch.rand(2, 8, 8)
    flipped = {"image": image.flip(-1), "map": heat.flip(-1) if follows else heat}
    maps = _Samples()
    maps.note({"image": image, "map": heat})
    assert _targets_stay({"image": image, "map": heat}, flipped, image, "left and right exchanged", maps) is None
    maps.note({"image": image, "map": heat + 1})
    assert _targets_stay({"image": image, "map": heat}, flipped, image, "left and right exchanged", maps) is not follows
