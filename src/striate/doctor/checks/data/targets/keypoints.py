"""Points in pictures: are maps drawn where they lie, do left and right change places, is x before y?"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch.nn import functional

from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.keypoints import Keypoints, keypoints_of
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.doctor.setup.batch import leaves
from striate.records import Finding
from striate.wording import several

_SMALLER = 1.3
"""Times a picture's side is its maps': below, cells and pixels cannot be told apart."""
_ALWAYS, _MIXED = 0.95, 0.75
"""Share of the samples of validation in which a point is left of another, and the most of training."""
_ALIKE, _AS_STRONG = 0.8, 0.6
"""Correlation of what lies around one point, on average, with the mirror image of that around another, and the ratio of
their contrasts."""
_SIDE = 8
"""Parts of a picture's side: so wide is what lies around a point."""


def unscaled_maps(evidence: Evidence) -> Finding | None:
    """Maps smaller than their pictures, that peak at the pixels of these."""
    found = keypoints_of(evidence.train.raw)
    if found is None or found.maps is None or float(found.scale.min()) < _SMALLER:
        return None
    peaks, points = found.peaks()
    own, scaled = (float((at - points).abs().amax(1).median()) for at in (peaks, peaks * found.scale))
    if own > 1 or scaled < 2 * float(found.scale.max()):
        return None
    size, lost = "{} × {}".format(*found.maps.shape[-2:]), 1 - len(peaks) / found.points[..., 0].numel()
    return Finding(
        code="data.target-scale",
        severity="error",
        where="training targets",
        measured=f"maps of {size} peak at the points in pixels of the image, although a cell has "
        f"{float(found.scale[0]):g} pixels; {lost:.0%} of the points are outside their map",
        threshold="peaks within one cell of the points in pixels, and not of the points in cells",
        why="Peaks are at twice their position or farther, or missing; decoded points are scaled once more.",
        remedy="draw the maps around `points / stride`",
    )


def points_are_across_first(evidence: Evidence) -> bool:
    """Whether points of the data are (x, y), by where their maps peak, also those that the step draws for its loss, or
    by the numbers of cells that this asks for."""
    with suppress(NoEvidence):
        found = keypoints_of(evidence.train.raw)
        if found is not None and found.maps is None:
            found = keypoints_of([(evidence.train.raw[0], _maps_asked(call, found)) for call in evidence.calls.losses])
        if found is not None and found.maps is not None:
            peaks, points = found.peaks()
            near, far = (float((at * found.scale - points).abs().amax(1).median()) for at in (peaks, peaks.flip(1)))
            room = 1.5 * float(found.scale.max())
            return near < room < far - near
    return False


def _maps_asked(call: LossCall, found: Keypoints) -> torch.Tensor:
    """The targets of a loss, as maps where they are a number for each point: that of a cell of its map."""
    target, points = call.target.flatten(), found.points.shape[1]
    if call.name not in CLASS_LOSSES or target.is_floating_point() or call.input.ndim < 2 or len(target) % points:
        return call.target
    cells, (height, width) = call.input.shape[1], found.pictures.shape[-2:]
    columns = round((cells * width / height) ** 0.5)
    if cells % columns:
        return call.target
    maps = functional.one_hot(target.clamp(0, cells - 1), cells)
    return maps.view(-1, points, cells // columns, columns).float()


def exchanged_sides(evidence: Evidence, flips: Sequence[tuple[Any, Any]]) -> Finding | None:
    """Of pairs of draws, the second with left and right exchanged, those whose points are mirrored, and the left one of
    two that look alike is not the left one any more."""
    mirrored = [told for one, other in flips if (told := _only_mirrored(one, other)) is not None]
    train, val = keypoints_of(evidence.train.raw), keypoints_of(evidence.val.raw)
    if len(mirrored) < 3 or not all(mirrored) or train is None or val is None:
        return None
    for left in range(val.points.shape[1]):
        for right in range(val.points.shape[1]):
            before = float((val.points[:, left, 0] < val.points[:, right, 0]).double().mean())
            after = float((train.points[:, left, 0] < train.points[:, right, 0]).double().mean())
            if before >= _ALWAYS and after <= _MIXED and _alike(train, left, right):
                return Finding(
                    code="data.targets-left-behind",
                    severity="error",
                    where="the augmentation of the training data set",
                    measured=f"in {several(len(mirrored), 'pair')} of draws, the second with left and right "
                    f"exchanged, points are mirrored but keep their numbers: point {left} is left of point {right} "
                    f"in {before:.0%} of validation and in {after:.0%} of training, and they look like mirror "
                    "images of each other",
                    threshold=f"a point on the left of another in {_ALWAYS:.0%} or more of validation, but in "
                    f"{_MIXED:.0%} or less of training",
                    why="In a mirrored image the left eye is the right one: half of these targets are wrong.",
                    remedy=f"exchange them after the flip: `points[[{left}, {right}]] = points[[{right}, {left}]]`, "
                    "and likewise for all pairs",
                )
    return None


def _only_mirrored(one: Any, other: Any) -> bool | None:
    """Whether points are mirrored one by one; None where there are none."""
    for (_, before), (_, after) in zip(leaves(one), leaves(other), strict=False):
        points = before.ndim == 2 and before.shape[1] in (2, 3) and len(before) > 1 and before.is_floating_point()
        if points and before.shape == after.shape:
            middle, span = before[:, 0] + after[:, 0], float(before[:, 0].max() - before[:, 0].min())
            even = float(middle.max() - middle.min()) < 0.02 * max(span, 1e-6)
            return even and bool(torch.allclose(before[:, 1], after[:, 1], atol=0.02 * max(span, 1e-6)))
    return None


def _alike(found: Keypoints, one: int, other: int) -> bool:
    first, second = _around(found, one), _around(found, other)
    if first is None or second is None:
        return False
    pair = torch.stack([first.flatten(), second.flip(-1).flatten()])
    weak, strong = sorted(pair.std(1).tolist())
    return weak > _AS_STRONG * strong and float(torch.corrcoef(pair)[0, 1]) > _ALIKE


def _around(found: Keypoints, number: int) -> torch.Tensor | None:
    """(C, S, S) what lies around a point, on average, where it is not cut off."""
    height, width = found.pictures.shape[-2:]
    half = max(2, min(height, width) // (2 * _SIDE))
    parts = []
    for picture, (x, y) in zip(found.pictures, found.points[:, number].round().long().tolist(), strict=True):
        if half <= x < width - half and half <= y < height - half:
            parts.append(picture[:, y - half : y + half + 1, x - half : x + half + 1])
    return torch.stack(parts).mean(0) if len(parts) >= 16 else None
