"""Small and large images for super-resolution that show different parts: crop positions were not scaled."""

from __future__ import annotations

import torch
from torch.nn.functional import avg_pool2d

from striate.doctor.checks.data.moved.left_behind import left_behind
from striate.doctor.evidence.evidence import Evidence
from striate.records import Finding
from striate.wording import several

_FEWEST, _MOST, _OFTEN, _FARTHEST = 16, 32, 0.4, 6
_ALIKE, _MORE = 0.7, 0.1
"""The least correlation at the best shift, and by how much it exceeds that without a shift."""


def mismatched_crops(evidence: Evidence) -> Finding | None:
    """A finding if targets, a whole number of times as large as their inputs, match them only after a shift; None if
    few do."""
    x, y = evidence.samples.x, evidence.samples.y
    if x is None or y is None or x.ndim != 4 or y.ndim != 4 or not y.is_floating_point() or x.shape[1] != y.shape[1]:
        return None
    times = y.shape[2] // x.shape[2]
    if times < 2 or y.shape[2:] != (times * x.shape[2], times * x.shape[3]) or min(x.shape[2:]) < 8 or len(x) < _FEWEST:
        return None
    small = avg_pool2d(y[:_MOST].float(), times)
    a, b = (part - part.mean((1, 2, 3), keepdim=True) for part in (x[:_MOST].float(), small))
    rows, columns = (min(side // 2, _FARTHEST) for side in x.shape[2:])
    apart = 0
    for image, other in zip(a, b, strict=True):
        as_they_lie, best = _alike(image, other, 0, 0), 0.0
        for down in range(-rows, rows + 1):
            for right in range(-columns, columns + 1):
                best = max(best, _alike(image, other, down, right))
        apart += best > _ALIKE and best > as_they_lie + _MORE
    if apart < _OFTEN * len(a):
        return None
    return left_behind(
        "the training data set",
        f"in {apart} of {several(len(a), 'pair')} the target, downscaled to the size of the input, matches it only "
        "after a shift",
        "targets a whole number of times as large as their inputs, which match them only after a shift, in "
        "40 % of the pairs",
        "Input and target show different parts of the image: the input does not show what the target asks for.",
        "positions in the large image are those in the small one times the scale: `large[:, scale * top :, "
        "scale * left :]` beside `small[:, top:, left:]`",
    )


def _alike(one: torch.Tensor, other: torch.Tensor, down: int, right: int) -> float:
    """The correlation of the overlap of two images (C, H, W) if the second is shifted."""
    height, width = one.shape[1:]
    a = one[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)]
    b = other[:, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)]
    a, b = (part - part.mean() for part in (a, b))
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 0 else 0.0
