"""Augmentation that permutes the color channels: a flip along the wrong axis, or a permutation although targets depend
on colors."""

from __future__ import annotations

import torch

from striate.doctor.checks.data.augmentation.color_orders import _ORIGINAL, _order


def test_the_order_of_colors_of_an_image_that_is_not_square() -> None:
    image = torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))
    assert _order((image, image)) == _ORIGINAL
    assert _order((image, image.flip(0))) == (2, 1, 0)
