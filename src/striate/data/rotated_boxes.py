"""Rotated boxes: their corners, their change when the image is scaled or transformed, and their visible share.

A box has edges (left, top, right, bottom), which are those before it is rotated about its center, and an angle in
degrees, counterclockwise as it is seen; y points down. Free of torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SEEN = 0.5
"""A rotated box is not clipped, since the rest of it would not be a box. It is left out if less than this share of its
area is in the image."""


def transform_boxes(wide: Any, high: Any, angle: Any, matrix: Any, xp: Any = np) -> tuple[Any, Any, Any]:
    """Sides and angle of boxes with these sides and angle (…), after their image was transformed by the `matrix` ((a,
    b), (c, d)) on (right, down). Arrays are those of `xp`, numpy or torch.

    A box becomes a parallelogram. The result is the box onto whose axes the sides of the parallelogram project with the
    largest sum of squares. For a rotation or a scaling it is exact.
    """
    (a, b), (c, d) = matrix
    turn = xp.deg2rad(angle)
    cos, sin = xp.cos(turn), xp.sin(turn)
    # The side along the width, and that along the height, as (right, down).
    x1, y1 = wide * (a * cos - b * sin), wide * (c * cos - d * sin)
    x2, y2 = high * (a * sin + b * cos), high * (c * sin + d * cos)
    # In complex numbers, x + iy: the sum of squares is largest where the axis along the width has half the angle of
    # (the first side)² − (the second side)².
    axis = xp.arctan2(2 * (x1 * y1 - x2 * y2), (x1 * x1 - y1 * y1) - (x2 * x2 - y2 * y2)) / 2
    along, across = xp.cos(axis), xp.sin(axis)
    return abs(x1 * along + y1 * across), abs(y2 * along - x2 * across), -xp.rad2deg(axis)


def scale_boxes(boxes: NDArray[np.float64], scale: tuple[float, float]) -> NDArray[np.float64]:
    """(M, 5) boxes after their image was scaled by these factors, along x and y."""
    across, down = scale
    center = (boxes[:, :2] + boxes[:, 2:4]) / 2 * scale
    sides, angle = (boxes[:, 2:4] - boxes[:, :2]) * scale, boxes[:, 4]
    if across != down:
        given = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
        wide, high, angle = transform_boxes(*given, angle, ((across, 0.0), (0.0, down)))
        sides = np.stack([wide, high], 1)
    return np.column_stack([center - sides / 2, center + sides / 2, angle])


def corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 4, 2) x and y of the corners of boxes (M, 5), beginning at the top left one, in the direction from x to y."""
    center, half = (boxes[:, :2] + boxes[:, 2:4]) / 2, (boxes[:, 2:4] - boxes[:, :2]) / 2
    turn = np.radians(boxes[:, 4])
    along = np.stack([np.cos(turn), -np.sin(turn)], 1) * half[:, :1]
    down = np.stack([np.sin(turn), np.cos(turn)], 1) * half[:, 1:]
    return np.stack([center + a * along + b * down for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))], 1)


def common_area(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """The area of the intersection of two convex polygons (N, 2) and (M, 2), with corners in that order: the first is
    clipped at each edge of the second (Sutherland and Hodgman 1974)."""
    points = one
    for start, end in zip(other, np.roll(other, -1, 0), strict=True):
        along, apart = end - start, points - start
        inside = along[0] * apart[:, 1] - along[1] * apart[:, 0]
        kept: list[NDArray[np.float64]] = []
        for k, point in enumerate(points):
            if inside[k - 1] * inside[k] < 0:
                kept.append(points[k - 1] + (point - points[k - 1]) * inside[k - 1] / (inside[k - 1] - inside[k]))
            if inside[k] >= 0:
                kept.append(point)
        if not kept:
            return 0.0
        points = np.array(kept)
    x, y = points.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def visible_shares(boxes: NDArray[np.float64], height: float, width: float) -> NDArray[np.float64]:
    """(M,) the share of the area of boxes (M, 5) that lies in an image of this size; 0 for a box without an area."""
    places, area = corners(boxes), np.prod(boxes[:, 2:4] - boxes[:, :2], 1)
    within = ((places >= 0) & (places <= [width, height])).all((1, 2))
    image = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    shares = np.where(within, 1.0, 0.0)
    for k in np.flatnonzero(~within & (area > 0)):
        shares[k] = common_area(places[k], image) / area[k]
    flat = (boxes[:, 2:4] <= boxes[:, :2]).any(1)
    return np.where(flat, 0.0, shares)


def upright_box(edges: tuple[float, float, float, float], angle: float | None) -> tuple[float, float, float, float]:
    """The upright box around a rotated one."""
    if not angle:
        return edges
    places = corners(np.array([[*edges, angle]]))[0]
    (left, top), (right, bottom) = places.min(0).tolist(), places.max(0).tolist()
    return left, top, right, bottom
