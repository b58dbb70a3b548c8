"""How far predicted points are from true ones, point by point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def _relative(
    predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: Sequence[float]
) -> Iterator[list[float]]:
    """Of each image the distances of its visible points over √(w · h) of the box around these; where the box has no
    area, over √area of the image."""
    for said, points, seen, area in zip(
        np.asarray(predicted), np.asarray(true), np.asarray(visible, bool), areas, strict=True
    ):
        shown: NDArray[np.float64] = points[seen]
        if not len(shown):
            yield []
            continue
        width, height = shown.max(0) - shown.min(0)
        size = (width * height or area) ** 0.5
        yield [float(np.hypot(*(one - other))) / size for one, other in zip(said[seen], shown, strict=True)]


def normalized_mean_error(predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: Sequence[float]) -> float:
    """NME: the mean over images of the mean relative distance of their visible points.

    `predicted`, `true` (N, K, 2) in pixels, `visible` (N, K), `areas` (N,) of the images in pixels.
    """
    each = [sum(found) / len(found) for found in _relative(predicted, true, visible, areas) if found]
    return sum(each) / len(each)


def correct_points(
    predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: Sequence[float], near: float
) -> float:
    """PCK: the share of visible points whose relative distance is below `near`."""
    found = [distance for image in _relative(predicted, true, visible, areas) for distance in image]
    return sum(distance < near for distance in found) / len(found)


def area_of_correct_points(
    predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: Sequence[float], near: float, steps: int = 20_000
) -> float:
    """The area under the curve of PCK for distances of 0 to `near`, as a share of what is possible, summed up."""
    found = np.array([distance for image in _relative(predicted, true, visible, areas) for distance in image])
    return float(np.mean([(found < near * (step + 0.5) / steps).mean() for step in range(steps)]))
