"""Points that are mirrored with their image, while left and right points keep their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from striate.doctor.checks.data.moved.left_behind import AUGMENTATION, left_behind
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.keypoints import Keypoints, are_flat, keypoints_of
from striate.doctor.setup.batch import leaves
from striate.records import Finding
from striate.wording import percent, several

_ALWAYS, _MIXED = 0.95, 0.75
"""The least share of validation samples in which a point is left of another, and the largest share of training
samples."""
_ALIKE, _AS_STRONG = 0.8, 0.6
"""The least correlation of the mean patch around a point with the mirrored mean patch around another, and the least
ratio of their contrasts."""
_SIDE = 8
"""The side of an image in widths of a patch."""


def left_of_points(evidence: Evidence, flips: Sequence[tuple[Any, Any]]) -> Finding | None:
    """A finding if points are mirrored in pairs of draws, `flips`, but the left one of two similar points becomes the
    right one; else None."""
    mirrored = [only_mirrored for one, other in flips if (only_mirrored := _only_mirrored(one, other)) is not None]
    train, val = (keypoints_of(batches, flat=True) for batches in (evidence.train.raw, evidence.val.raw))
    if len(mirrored) < 3 or not all(mirrored) or train is None or val is None:
        return None
    train = train.in_pixels()
    for left in range(val.points.shape[1]):
        for right in range(val.points.shape[1]):
            before = float((val.points[:, left, 0] < val.points[:, right, 0]).double().mean())
            after = float((train.points[:, left, 0] < train.points[:, right, 0]).double().mean())
            if before >= _ALWAYS and after <= _MIXED and _look_alike(train, left, right):
                return left_behind(
                    AUGMENTATION,
                    f"in {several(len(mirrored), 'pair')} of draws, the second with left and right "
                    f"exchanged, points are mirrored but keep their numbers: point {left} is left of point {right} "
                    f"in {percent(before, 0)} of validation and in {percent(after, 0)} of training, and they look like "
                    "mirror images of each other",
                    f"a point on the left of another in {percent(_ALWAYS, 0)} or more of validation, but in "
                    f"{percent(_MIXED, 0)} or less of training",
                    "In a mirrored image the left eye is the right one: half of these targets are wrong.",
                    f"exchange them after the flip: `points[[{left}, {right}]] = points[[{right}, {left}]]`, "
                    "and likewise for all pairs",
                )
    return None


def _only_mirrored(one: Any, other: Any) -> bool | None:
    """Whether each point is mirrored without a change of its number; None if there are no points."""
    for (_, first), (_, second) in zip(leaves(one), leaves(other), strict=False):
        before, after = (t.unflatten(0, (-1, 2)) if are_flat(t) else t for t in (first, second))
        points = before.ndim == 2 and before.shape[1] in (2, 3) and len(before) > 1 and before.is_floating_point()
        if points and before.shape == after.shape:
            middle, span = before[:, 0] + after[:, 0], float(before[:, 0].max() - before[:, 0].min())
            even = float(middle.max() - middle.min()) < 0.02 * max(span, 1e-6)
            return even and bool(torch.allclose(before[:, 1], after[:, 1], atol=0.02 * max(span, 1e-6)))
    return None


def _look_alike(found: Keypoints, one: int, other: int) -> bool:
    first, second = _mean_patch(found, one), _mean_patch(found, other)
    if first is None or second is None:
        return False
    pair = torch.stack([first.flatten(), second.flip(-1).flatten()])
    weak, strong = sorted(pair.std(1).tolist())
    return weak > _AS_STRONG * strong and float(torch.corrcoef(pair)[0, 1]) > _ALIKE


def _mean_patch(found: Keypoints, number: int) -> torch.Tensor | None:
    """(C, S, S) the mean patch around a point; None if it is mostly cut off."""
    height, width = found.pictures.shape[-2:]
    half = max(2, min(height, width) // (2 * _SIDE))
    parts = []
    for picture, (x, y) in zip(found.pictures, found.points[:, number].round().long().tolist(), strict=True):
        if half <= x < width - half and half <= y < height - half:
            parts.append(picture[:, y - half : y + half + 1, x - half : x + half + 1])
    return torch.stack(parts).mean(0) if len(parts) >= 16 else None
