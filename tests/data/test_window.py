"""Windows: parts of training images and their masks, the same part of both."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.data.augment.augment import augment_batch, draw_augmentation
from striate.data.config import AugmentConfig

HEIGHT, WIDTH = 40, 60


def ramps(count: int) -> torch.Tensor:
    """(N, 3, H, W) uint8 whose channels are the row, the column and 0."""
    x = torch.zeros(count, 3, HEIGHT, WIDTH, dtype=torch.uint8)
    x[:, 0] += torch.arange(HEIGHT, dtype=torch.uint8)[:, None]
    x[:, 1] += torch.arange(WIDTH, dtype=torch.uint8)
    return x


def test_without_zoom_a_window_copies_a_part_and_masks_the_same_part() -> None:
    x, ids = ramps(50), torch.arange(50)
    seen, warp = augment_batch(x, AugmentConfig(window=32), 0, 0, ids)
    assert warp is not None
    assert seen.shape == (50, 3, 32, 32)
    first = seen[:, :2, 0, 0].long()
    assert torch.equal(seen[:, 0].long(), first[:, :1, None] + torch.arange(32)[:, None].expand(32, 32))
    assert (int(first[:, 0].min()), int(first[:, 0].max())) == (0, HEIGHT - 32)
    assert (int(first[:, 1].min()), int(first[:, 1].max())) == (0, WIDTH - 32)
    assert torch.equal(warp.apply(x[:, 1:2], nearest=True, fill=255), seen[:, 1:2])


def test_zoomed_windows_show_images_smaller_and_larger_and_masks_follow() -> None:
    x, ids = ramps(80), torch.arange(80)
    seen, warp = augment_batch(x, AugmentConfig(window=24, zoom=2.0, flip=True), 3, 1, ids)
    assert warp is not None
    assert warp.window is not None
    extent = warp.window.box[:, 2:]
    assert int(extent.min()) == pytest.approx(12, abs=1)
    assert int(extent[:, 0].max()) <= HEIGHT
    assert bool((extent[:, 0] - extent[:, 1]).abs().max() <= 1)  # proportions stay
    mask = warp.apply(x[:, 1:2], nearest=True, fill=255)
    assert float((mask.float() - seen[:, 1:2].float()).abs().max()) <= 2
    assert set(mask.unique().tolist()) <= set(range(WIDTH))


def test_a_window_larger_than_the_image_is_the_image() -> None:
    x, ids = ramps(4), torch.arange(4)
    assert torch.equal(augment_batch(x, AugmentConfig(window=512), 0, 0, ids)[0], x)
    seen, _ = augment_batch(x, AugmentConfig(window=50, zoom=1.5), 0, 0, ids)
    assert seen.shape == (4, 3, HEIGHT, 50)


def test_what_a_sample_shows_depends_on_nothing_but_seed_epoch_and_sample() -> None:
    x, config = ramps(10), AugmentConfig(window=24, zoom=1.5, flip=True, color=0.2)
    whole = augment_batch(x, config, 1, 2, torch.arange(10))[0]
    alone = augment_batch(x[7:8], config, 1, 2, torch.tensor([7]))[0]
    assert torch.equal(whole[7:8], alone)
    assert not torch.equal(augment_batch(x, config, 1, 3, torch.arange(10))[0], whole)
    assert draw_augmentation(AugmentConfig(window=0), 0, 0, torch.arange(2), (3, 8, 8)) is None


def test_windows_of_floats_and_of_bytes_agree() -> None:
    x, ids = ramps(6), torch.arange(6)
    _, warp = augment_batch(x, AugmentConfig(window=24, zoom=2.0), 0, 0, ids)
    assert warp is not None
    bytes_, floats = warp.apply(x), warp.apply(x.float())
    assert float((bytes_.float() - floats).abs().max()) <= 1
    assert np.isfinite(floats.numpy()).all()


def test_windows_lie_between_black_margins() -> None:
    """A padded image: windows smaller than what it shows are in it, and larger ones hold all of it."""
    x, ids = torch.zeros(60, 3, HEIGHT, WIDTH, dtype=torch.uint8), torch.arange(60)
    x[:, :, :, 20:44] = 90
    seen, _ = augment_batch(x, AugmentConfig(window=16), 0, 0, ids)
    assert bool((seen == 90).all())
    seen, warp = augment_batch(x, AugmentConfig(window=32), 0, 0, ids)
    assert bool(((seen[:, 0] == 90).sum((1, 2)) == 32 * 24).all())
    assert warp is not None
    assert warp.window is not None
    assert len(warp.window.box[:, 1].unique()) > 4
    x[:] = 0
    assert bool((augment_batch(x, AugmentConfig(window=16), 0, 0, ids)[0] == 0).all())
