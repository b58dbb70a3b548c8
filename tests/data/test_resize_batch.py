"""Whole batches are resized as Pillow resizes; masks keep their classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from striate.data.augment.crop import resize_batch


@pytest.mark.parametrize("size", [(12, 16), (20, 20), (7, 31), (48, 40)])
def test_images_are_pillows(size: tuple[int, int]) -> None:
    x = torch.randint(0, 256, (3, 3, 24, 31), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    got = resize_batch(x, size)
    assert (got.dtype, got.shape) == (torch.uint8, (3, 3, *size))
    for image, resized in zip(x, got, strict=True):
        whole = Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
        assert np.abs(resized.permute(1, 2, 0).numpy().astype(int) - np.asarray(whole).astype(int)).max() <= 1
    assert float((resize_batch(x.float(), size) - got).abs().max()) <= 1.5


def test_a_batch_of_that_size_is_the_same_object() -> None:
    x = torch.zeros(2, 1, 5, 6, dtype=torch.uint8)
    assert resize_batch(x, (5, 6)) is x


def test_masks_take_the_class_at_the_center() -> None:
    mask = torch.tensor([[0, 0, 7, 7, 7, 255], [0, 3, 7, 7, 255, 255]], dtype=torch.uint8)
    mask = mask.repeat_interleave(3, 0).repeat_interleave(3, 1)[None, None]
    small = resize_batch(mask, (2, 6), nearest=True)
    assert small.tolist() == [[[[0, 0, 7, 7, 7, 255], [0, 3, 7, 7, 255, 255]]]]
    assert small.dtype == torch.uint8
