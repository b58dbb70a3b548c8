"""Masks that stay while their image is flipped or rotated, and also enlarged, cropped or shifted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from striate.doctor.checks.data.moved.moved_roughly import left_roughly

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
    found = left_roughly([[data[number] for _ in range(6)] for number in range(24)])
    assert (found is None) == together
    assert found is None or found[0] == "left and right exchanged"


SIDE, REACH, VOID = 24, 3, 255


class Shifted(Dataset[dict[str, Tensor]]):
    """A noisy square off the center, flipped by chance and shifted with its mask; what comes in is void."""

    def __init__(self, together: bool) -> None:
        self.together, self.random = together, torch.Generator().manual_seed(0)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        own = torch.Generator().manual_seed(number)
        top, left = torch.randint(1, 14, (2,), generator=own).tolist()
        mask = torch.zeros(SIDE, SIDE, dtype=torch.long)
        mask[top : top + 8, left : left + 8] = 1 + number % 2
        image = 0.5 * mask.sign()[None] + 0.1 * torch.randn(3, SIDE, SIDE, generator=own)
        flipped = torch.rand(2, generator=self.random) < 0.5
        image = image.flip(-1) if flipped[0] else image
        mask = mask.flip(-1) if flipped[0 if self.together else 1] else mask
        top, left = torch.randint(0, 2 * REACH + 1, (2,), generator=self.random).tolist()
        image, mask = (functional.pad(x, [REACH] * 4, value=fill) for x, fill in ((image, 0), (mask, VOID)))
        rows, columns = slice(top, top + SIDE), slice(left, left + SIDE)
        return {"pixel_values": image[:, rows, columns], "labels": mask[rows, columns]}


@pytest.mark.parametrize("together", [True, False])
def test_masks_of_images_that_are_shifted_too(together: bool) -> None:
    data = Shifted(together)
    found = left_roughly([[data[number] for _ in range(6)] for number in range(24)])
    assert (found is None) == together
    assert found is None or found[0] == "left and right exchanged"
