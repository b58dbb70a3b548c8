"""Masks that fit their images better once they are flipped or rotated."""

from __future__ import annotations

import torch

from striate.doctor.checks.data.moved.left_behind import left_behind
from striate.doctor.checks.data.moved.moves import EVERY_WAY
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.features import channels_first
from striate.doctor.evidence.samples import Samples
from striate.doctor.evidence.simple_models import class_separation, class_separations
from striate.doctor.setup.batch import is_binary
from striate.records import Finding

_MORE, _TIMES = 0.1, 2.0
"""The least explained variance above that of random pairings; and how many times that of unmoved masks."""
_FEWEST, _MOST = 20, 96


def rotated_masks(evidence: Evidence) -> Finding | None:
    """A finding if moved masks fit the images of training or validation better; else None."""
    return _rotated(evidence.samples) or _rotated(evidence.val_samples)


def _rotated(samples: Samples) -> Finding | None:
    maps = _masks(samples)
    x = channels_first(samples.x) if samples.x is not None else None
    if maps is None or x is None or len(x) < _FEWEST or x.ndim != 4 or x.shape[2:] != maps.shape[1:]:
        return None
    x, maps = x[:_MOST].float(), maps[:_MOST]
    moved = {way: m for way, move in EVERY_WAY.items() if (m := move(maps)).shape == maps.shape}
    as_they_lie, *fits = class_separations(x, [maps, *moved.values()])
    best, way = max(zip(fits, moved, strict=True))
    needed = max(_MORE, _TIMES * as_they_lie)
    if best <= needed or best - max(class_separation(x, moved[way])[1], default=best) <= needed:
        return None
    return left_behind(
        f"{'training' if samples.name == 'train' else 'validation'} masks",
        f"they explain {best:.2f} of the variance of brightness or texture of pixels with {way}, and "
        f"{as_they_lie:.2f} without",
        "masks that fit brightness and texture twice as well if they are flipped or rotated",
        "Each pixel gets the class of another position.",
        "read images and masks with the same order of axes, and flip and rotate both: `image.transpose(2, "
        "0, 1)` turns (H, W, C) into (C, H, W)",
    )


def _masks(samples: Samples) -> torch.Tensor | None:
    """Class maps (N, H, W), also from floating-point masks of 0 and 1; None if there are none."""
    if samples.maps is not None:
        return samples.maps
    y = samples.y
    two = y is not None and y.ndim == 4 and y.shape[1] == 1 and is_binary(y)
    return y[:, 0].long() if y is not None and two else None
