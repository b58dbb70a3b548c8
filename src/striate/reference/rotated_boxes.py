"""The overlap of rotated boxes (left, top, right, bottom before the rotation, angle)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from striate.errors import ShapeError
from striate.reference.arguments import Array, array


def _rotated(given: ArrayLike, name: str) -> Array:
    boxes = array(given, name)
    if boxes.ndim != 2 or boxes.shape[1] != 5:
        raise ShapeError(
            name,
            f"shape {boxes.shape}",
            "(N, 5): left, top, right, bottom, angle",
            "np.column_stack([boxes, angles])",
        )
    return boxes


def _polygon(given: ArrayLike, name: str) -> Array:
    corners = array(given, name)
    if corners.ndim != 2 or corners.shape[1] != 2:
        raise ShapeError(name, f"shape {corners.shape}", "(N, 2): x and y of N corners", f"np.reshape({name}, (-1, 2))")
    return corners


def rotated_corners(boxes: ArrayLike) -> Array:
    """The corners (N, 4, 2), x and y, of boxes (N, 5), rotated about their centers by an angle in degrees,
    counterclockwise where y points down. The top left corner comes first, then the top right one."""
    found = np.zeros((*_rotated(boxes, "boxes").shape[:1], 4, 2))
    for k, (left, top, right, bottom, angle) in enumerate(_rotated(boxes, "boxes")):
        center = np.array([(left + right) / 2, (top + bottom) / 2])
        cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        turn = np.array([[cos, sin], [-sin, cos]])
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
        found[k] = center + (corners - center) @ turn.T
    return found


def common_polygon(polygon: ArrayLike, other: ArrayLike) -> Array:
    """The corners (K, 2) of the intersection of two convex polygons (N, 2) and (M, 2), whose corners are ordered from x
    to y: the first is cut at each edge of the second. Sutherland and Hodgman, "Reentrant polygon clipping", 1974.
    Raises ShapeError."""
    points, knife = list(_polygon(polygon, "polygon")), _polygon(other, "other")
    for start, end in zip(knife, np.roll(knife, -1, 0), strict=True):
        along = end - start
        inside = [along[0] * (p[1] - start[1]) - along[1] * (p[0] - start[0]) for p in points]
        kept = []
        for k, point in enumerate(points):
            before, here = inside[k - 1], inside[k]
            if (before < 0) != (here < 0):
                kept.append(points[k - 1] + (point - points[k - 1]) * before / (before - here))
            if here >= 0:
                kept.append(point)
        points = kept
    return np.array(points).reshape(-1, 2)


def polygon_area(polygon: ArrayLike) -> float:
    """The area of a polygon with corners (N, 2), by the shoelace formula; negative if they are ordered from y to x.
    Raises ShapeError."""
    x, y = _polygon(polygon, "polygon").T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def rotated_box_iou(a: ArrayLike, b: ArrayLike) -> Array:
    """The exact intersection over union (N, M) of rotated boxes (N, 5) and (M, 5); 0 where neither has an area. The
    angle is in degrees, counterclockwise where y points down."""
    first, second = rotated_corners(_rotated(a, "a")), rotated_corners(_rotated(b, "b"))
    found = np.zeros((len(first), len(second)))
    for i, one in enumerate(first):
        for j, other in enumerate(second):
            common = polygon_area(common_polygon(one, other))
            union = polygon_area(one) + polygon_area(other) - common
            found[i, j] = common / union if union > 0 else 0.0
    return found
