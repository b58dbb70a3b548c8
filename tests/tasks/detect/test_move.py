"""Boxes stay on their objects however the image is moved."""

from __future__ import annotations

import pytest
import torch

from striate.data.augment.augment import augment_batch
from striate.data.augment.warp import Warp
from striate.data.config import AugmentConfig
from striate.tasks.detect.move import resize_boxes, warp_boxes

HEIGHT, WIDTH = 40, 48


def _painted(boxes: list[tuple[int, int, int, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """An image for each box that is white there, and the boxes as targets."""
    images = torch.zeros(len(boxes), 1, HEIGHT, WIDTH, dtype=torch.uint8)
    targets = torch.zeros(len(boxes), 2, 6)
    targets[..., 4] = -1
    for k, (left, top, right, bottom) in enumerate(boxes):
        images[k, :, top:bottom, left:right] = 255
        targets[k, 0] = torch.tensor([left, top, right, bottom, 3, 0])
    return images, targets


def _around(image: torch.Tensor) -> list[float]:
    """The box around what is more white than black."""
    down, across = torch.nonzero(image[0] > 127).unbind(1)
    return [float(across.min()), float(down.min()), float(across.max() + 1), float(down.max() + 1)]


@pytest.mark.parametrize(
    "config",
    [
        AugmentConfig(flip=True, shift=5),
        AugmentConfig(flip=True, vertical_flip=True),
        AugmentConfig(crop=0.4, flip=True),
        AugmentConfig(crop=0.5, scale=0.3, shift=3, flip=True),
        AugmentConfig(rotate=8),
    ],
)
def test_a_box_lies_where_its_object_does(config: AugmentConfig) -> None:
    images, targets = _painted([(14 + k % 5, 12 + k % 7, 27 + k % 5, 24 + k % 7) for k in range(24)])
    zero = AugmentConfig(**{**vars(config), "fill": "zero"})
    moved, warp = augment_batch(images, zero, 0, 0, torch.arange(24))
    assert warp is not None
    found = warp_boxes(targets, warp, (HEIGHT, WIDTH))
    checked = 0
    for image, rows in zip(moved, found, strict=True):
        assert rows[1, 4] == -1
        if rows[0, 4] < 0:
            continue
        inside = rows[0, :2].min() > 1 and rows[0, 2] < WIDTH - 1 and rows[0, 3] < HEIGHT - 1
        if inside and config.rotate is None:
            assert _around(image) == pytest.approx(rows[0, :4].tolist(), abs=1.01)
            checked += 1
        elif inside:  # the upright box around the corners of a turned one holds all of it
            near = _around(image)
            assert all(a >= b - 1 for a, b in zip(near[:2], rows[0, :2].tolist(), strict=True))
            assert all(a <= b + 1 for a, b in zip(near[2:], rows[0, 2:4].tolist(), strict=True))
            checked += 1
    assert checked >= 8


def test_what_leaves_the_image_is_clipped_and_then_dropped() -> None:
    _, targets = _painted([(0, 10, 12, 20)] * 3)
    shift = torch.tensor([[0, -4], [0, -9], [0, -10]])
    found = warp_boxes(targets, Warp(torch.zeros(3, dtype=torch.bool), shift), (HEIGHT, WIDTH))
    assert found[0, 0].tolist() == [0, 10, 8, 20, 3, 0]
    assert found[1, 0].tolist() == [0, 10, 3, 20, 3, 0], "a quarter is left"
    assert found[2, 0].tolist() == [0, 0, 0, 0, -1, 0], "a sixth is left"


def test_mirrored_twice_a_box_has_the_same_bits() -> None:
    targets = torch.zeros(4, 1, 6)
    first = torch.randint(0, 20 * 256, (4, 1, 2), generator=torch.Generator().manual_seed(0)) / 256
    targets[..., :2], targets[..., 2:4] = first, first + 7 + 3 / 256
    mirror = Warp(torch.ones(4, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.int64))
    once = warp_boxes(targets, mirror, (HEIGHT, WIDTH))
    assert not torch.equal(once, targets)
    assert torch.equal(warp_boxes(once, mirror, (HEIGHT, WIDTH)), targets)


def test_boxes_grow_with_their_image() -> None:
    _, targets = _painted([(12, 10, 24, 20)])
    assert resize_boxes(targets, (HEIGHT, WIDTH), (20, 96))[0, 0].tolist() == [24, 5, 48, 10, 3, 0]
