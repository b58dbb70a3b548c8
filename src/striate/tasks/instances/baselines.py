"""The baseline of instance segmentation, without learning: a threshold, and a watershed between touching objects."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import gaussian, threshold_otsu
from skimage.segmentation import watershed

from striate.data.annotations.boxes import CLASS
from striate.data.annotations.instances import objects_of
from striate.data.dataset import Dataset, Split
from striate.tasks.baseline import Fitted, Method
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.instances.box_masks import gathered, packed
from striate.tasks.instances.decode import MASK, WIDTH
from striate.tasks.task import Task

_IMAGES = 30
"""Number of images from which the sizes of objects, and the parameters, are chosen."""
_SMALLEST = 0.1
"""As a share of the area of a median training object's box: smaller parts are no objects."""


class _Choice(NamedTuple):
    """Whether objects are darker than the background, the standard deviation of the smoothing in pixels, and the
    smallest distance of the centers of two objects, as a share of the median object's side."""

    dark: bool
    smooth: float
    near: float


def instance_methods(data: Dataset) -> tuple[Method, ...]:
    """The baseline, for all images."""
    del data
    what = (
        "Segments pixels brighter (or darker) than Otsu's threshold of the image, and splits them by a watershed from "
        "the places farthest from the background; all objects get the most common class."
    )
    return (Method("threshold and watershed", what, _watershed),)


def _watershed(data: Dataset, task: Task, seed: int) -> Fitted:
    del seed
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    boxes, values = objects_of(train.targets[_evenly_spaced(len(train))].cpu(), len(data.classes))
    kinds = boxes[..., CLASS][values > 0].long()
    kind, most = int(kinds.mode().values), int(getattr(task, "most", 100))
    side = float((boxes[..., 2:4] - boxes[..., :2])[values > 0].prod(1).sqrt().median())
    some = val.take(_evenly_spaced(len(val)))
    best, chosen = -1.0, _Choice(False, 1.0, 0.5)
    for choice in (_Choice(*each) for each in product((False, True), (0.5, 2.0), (0.35, 0.7))):
        found = _found(some, choice, side, kind, most)
        score = task.headline_metric().value(task.rows_for(found, some.targets))
        if score > best:
            best, chosen = score, choice
    parameters = {"dark": chosen.dark, "smoothing": chosen.smooth, "distance": chosen.near}
    learned = min(len(train), _IMAGES)
    return Fitted(_found(test, chosen, side, kind, most), "gray values", learned, parameters)


def _evenly_spaced(count: int) -> torch.Tensor:
    """Positions of at most `_IMAGES` samples, evenly spaced."""
    return torch.from_numpy(np.unique(np.linspace(0, count - 1, min(count, _IMAGES)).round().astype(np.int64)))


def _found(split: Split, choice: _Choice, side: float, kind: int, most: int) -> torch.Tensor:
    """(N, `most`, WIDTH) detections in the images of a split."""
    found = torch.zeros(len(split), most, WIDTH)
    found[..., CLASS] = -1
    for image in range(len(split)):
        gray = split.inputs[image : image + 1][0].float().mean(0).numpy()
        rows = _objects(-gray if choice.dark else gray, choice, side)[:most]
        for place, row in enumerate(rows):
            found[image, place, :SCORE] = torch.tensor([*row.edges, kind])
            found[image, place, SCORE] = row.score
            found[image, place, MASK:] = packed(torch.from_numpy(row.shares))
    return found


class _Object(NamedTuple):
    edges: tuple[float, float, float, float]
    score: float
    shares: NDArray[np.float32]


def _objects(gray: NDArray[np.float32], choice: _Choice, side: float) -> list[_Object]:
    """The parts of a gray image that are brighter than its threshold; those with the highest contrast first."""
    smooth = gaussian(gray, choice.smooth)
    if np.ptp(smooth) == 0:
        return []
    limit = threshold_otsu(smooth)
    inside = ndimage.binary_fill_holes(smooth > limit)
    distance = gaussian(ndimage.distance_transform_edt(inside), 1.0)
    near = max(1, round(choice.near * side))
    peaks = peak_local_max(distance, min_distance=near, labels=ndimage.label(inside)[0], exclude_border=False)
    markers = np.zeros(inside.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-distance, markers, mask=inside)
    scale, found = max(float(smooth.max() - limit), 1e-6), []
    for number, at in enumerate(ndimage.find_objects(labels), 1):
        if at is None or (part := labels[at] == number).sum() < _SMALLEST * side**2:
            continue
        top, left, bottom, right = at[0].start, at[1].start, at[0].stop, at[1].stop
        edges = (float(left), float(top), float(right), float(bottom))
        score = float(np.clip((smooth[at][part].mean() - limit) / scale, 0.01, 1.0))
        found.append(_Object(edges, score, gathered(part, (top, left), np.array(edges))))
    return sorted(found, key=lambda one: -one.score)
