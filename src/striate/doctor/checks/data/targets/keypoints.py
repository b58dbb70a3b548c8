"""Points in images: are their maps drawn at the right scale, and is x before y?"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch.nn import functional

from striate.doctor.evidence.calls import LossCall
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.evidence.keypoints import Keypoints, keypoints_of
from striate.doctor.evidence.token_targets import CLASS_LOSSES
from striate.records import Finding
from striate.wording import percent

_SMALLER = 1.3
"""The least ratio of the sides of image and map by which cells and pixels can be distinguished."""


def unscaled_maps(evidence: Evidence) -> Finding | None:
    """A finding if maps smaller than their images peak at coordinates in pixels of the image; else None."""
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
        f"{float(found.scale[0]):g} pixels; {percent(lost, 0)} of the points are outside their map",
        threshold="peaks within one cell of the points in pixels, and not of the points in cells",
        why="Peaks are at twice their position or farther, or missing; decoded points are scaled once more.",
        remedy="draw the maps around `points / stride`",
    )


def points_are_across_first(evidence: Evidence) -> bool:
    """Whether points of the data are (x, y), by the peaks of their maps, of the maps that the step draws for its loss,
    or by the cell indices that are targets of the loss."""
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
    """The targets of a loss; as maps if they are cell indices of points."""
    target, points = call.target.flatten(), found.points.shape[1]
    if call.name not in CLASS_LOSSES or target.is_floating_point() or call.input.ndim < 2 or len(target) % points:
        return call.target
    cells, (height, width) = call.input.shape[1], found.pictures.shape[-2:]
    columns = round((cells * width / height) ** 0.5)
    if cells % columns:
        return call.target
    maps = functional.one_hot(target.clamp(0, cells - 1), cells)
    return maps.view(-1, points, cells // columns, columns).float()
