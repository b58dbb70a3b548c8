"""The distance of predicted points from true ones, point by point."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError, UsageError
from striate.reference.arguments import array, number, whole


def _relative(predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: ArrayLike) -> list[list[float]]:
    """For each image, the distances of its visible points, divided by √(w · h) of the box around these or, if that has
    no area, by √area of the image. Raises ShapeError, and UsageError where no point is visible."""
    said, points, seen, whole = (
        array(predicted, "predicted"),
        array(true, "true"),
        array(visible, "visible"),
        array(areas, "areas"),
    )
    if points.ndim != 3 or points.shape[2] != 2:
        raise ShapeError("true", f"shape {points.shape}", "(N, K, 2): right and down of K points", "true[None]")
    for name, values, shape in (
        ("predicted", said, points.shape),
        ("visible", seen, points.shape[:2]),
        ("areas", whole, points.shape[:1]),
    ):
        if values.shape != shape:
            remedy = f"{name}=np.ones({shape}) to see the form"
            raise ShapeError(name, f"shape {values.shape}", f"{shape}, as true is {points.shape}", remedy)
    found = []
    for place, known in enumerate(seen.astype(bool)):
        shown = points[place][known]
        width, height = shown.max(0) - shown.min(0) if len(shown) else (0.0, 0.0)
        size = (width * height or whole[place]) ** 0.5
        offsets = said[place][known] - shown
        found.append([float(np.hypot(x, y)) / size for x, y in offsets])
    if not any(found):
        raise UsageError("visible", "no visible point", "one at least", "leave these images out")
    return found


def normalized_mean_error(predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: ArrayLike) -> float:
    """NME: the mean over images of the mean relative distance of their visible points.

    `predicted`, `true` (N, K, 2) in pixels, `visible` (N, K), `areas` (N,) of the images in pixels.
    """
    each = [sum(found) / len(found) for found in _relative(predicted, true, visible, areas) if found]
    return sum(each) / len(each)


def correct_points(predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: ArrayLike, near: float) -> float:
    """PCK: the share of visible points whose relative distance is below `near`."""
    near = number(near, "near", above=0)
    found = [distance for image in _relative(predicted, true, visible, areas) for distance in image]
    return sum(distance < near for distance in found) / len(found)


def area_of_correct_points(
    predicted: ArrayLike, true: ArrayLike, visible: ArrayLike, areas: ArrayLike, near: float, steps: int = 20_000
) -> float:
    """The area under the curve of PCK for distances of 0 to `near`, as a share of what is possible, summed up."""
    near, steps = number(near, "near", above=0), whole(steps, "steps")
    found = np.array([distance for image in _relative(predicted, true, visible, areas) for distance in image])
    return float(np.mean([(found < near * (step + 0.5) / steps).mean() for step in range(steps)]))
