"""Pictures that are a part of another picture, or its mirror image: found by the low frequencies of windows.

Each picture is described as in `image_statistics.py`, and so are about 250 windows of it, from half of the picture to
all of it. Where the description of a picture is near that of a window of another picture, the window is moved until the
distance is smallest. If that is below a threshold, the picture is a part of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE = 64
"""Height and width of the lumas that are compared."""
MOST = 3_000
"""Pictures that are compared with one another: the time grows with the square of their number."""
_FREQUENCIES = 8
_SCALES = (1.0, 0.93, 0.83, 0.74, 0.65, 0.57)
_STEP = 0.11
_CANDIDATE, _SAME = 0.5, 0.05
"""Largest distance of a picture and a window with which the window is tried, and with which it counts as the same after
moving. Unrelated photographs are 0.4 apart or more."""
_COARSE = [row * _FREQUENCIES + column - 1 for row in range(5) for column in range(5) if row or column]
"""Places of the 24 lowest frequencies in a description. Windows are searched by these, since they change little when a
window is moved a little."""
_MEAN, _CONTRAST = 10.0, 0.15
_NEAREST = 2
_CHUNK = 64
_MOVES = ((0.04, 0.6), (0.015, 0.3), (0.0075, 0.2), (0.004, _SAME))
"""Steps by which the ends of a window are moved, as shares of the picture, and the distance that must be reached."""
_LEAST = 0.4
_CHANGES = np.array([[*one, 0, 0] for one in product((-1, 0, 1), repeat=2) if any(one)])
_CHANGES = np.concatenate([_CHANGES, np.roll(_CHANGES, 2, axis=1)])
"""Changes of the ends (top, bottom, left, right), one axis at a time: moved, longer or shorter."""

Span = tuple[float, float]


@cache
def _spans() -> tuple[Span, ...]:
    """Intervals of an axis from 0 to 1: for each scale, some that are evenly spaced."""
    found = []
    for scale in _SCALES:
        count = 1 + round((1 - scale) / _STEP + 0.49)
        found += [(float(start), float(start + scale)) for start in np.linspace(0, 1 - scale, count)]
    return tuple(found)


@cache
def _windows() -> NDArray[np.int64]:
    """(W, 2) pairs of intervals, of rows and of columns: of the same scale, or all of one axis."""
    scales = np.array([round(stop - start, 3) for start, stop in _spans()])
    same = scales[:, None] == scales[None]
    whole = (scales[:, None] == 1) | (scales[None] == 1)
    return np.argwhere(same | (whole & (np.minimum(scales[:, None], scales[None]) > 0.6)))


def _waves(spans: Sequence[Span] | NDArray[np.float64]) -> NDArray[np.float32]:
    """(S, 8, 64): cosines over each interval, integrated over each pixel. The product with an axis of pixels gives the
    frequencies of the interval."""
    edges = np.linspace(0, 1, SIDE + 1)
    start, length = np.array(spans)[:, :1], np.diff(np.array(spans), axis=1)
    at = np.clip((edges - start) / length, 0, 1)[:, None]
    order = np.arange(1, _FREQUENCIES)[:, None]
    integral = np.concatenate([at, np.sqrt(2) * np.sin(np.pi * order * at) / (np.pi * order)], axis=1)
    return np.diff(integral, axis=2).astype(np.float32)


def _described(
    spectra: NDArray[Any],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Description (…, 63) of length 1, mean (…) and contrast (…) of (…, 8, 8) frequencies."""
    flat = spectra.reshape(*spectra.shape[:-2], _FREQUENCIES * _FREQUENCIES)
    contrast = np.linalg.norm(flat[..., 1:], axis=-1)
    return flat[..., 1:] / np.maximum(contrast, 1e-6)[..., None], flat[..., 0], contrast


def _of_length_1(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-6)
    return unit


def _mirrored(descriptions: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, 63) descriptions of the pictures mirrored left to right: odd waves along rows change their sign."""
    signs = np.tile(np.array([1, -1] * (_FREQUENCIES // 2), np.float32), _FREQUENCIES)[1:]
    return descriptions * signs


def find_crops(lumas: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Pairs of the (N, 64, 64) `lumas`, the smaller number first, of which one shows a part of the other, mirrored or
    not, or its mirror image."""
    pixels = lumas.astype(np.float32)
    whole = _waves([(0.0, 1.0)])[0]
    own, means, contrasts = _described(whole @ pixels @ whole.T)
    description = np.concatenate([own, _mirrored(own)])
    nearest = _nearest_windows(pixels, description)
    pairs = set()
    for query, entries in enumerate(nearest):
        part = query % len(lumas)
        for distance, other, window in entries:
            pair = (min(part, other), max(part, other))
            if distance > _CANDIDATE or contrasts[part] < 2 or pair in pairs:
                continue
            row, column = _windows()[window]
            if _shows(
                pixels[other], description[query], (means[part], contrasts[part]), _spans()[row], _spans()[column]
            ):
                pairs.add(pair)
    return sorted(pairs)


def _nearest_windows(
    pixels: NDArray[np.float32], description: NDArray[np.float32]
) -> list[list[tuple[float, int, int]]]:
    """For each description, its nearest windows of different pictures: distance, picture, window."""
    waves, (rows, columns) = _waves(_spans()), _windows().T
    count, description = len(pixels), _of_length_1(description[:, _COARSE])
    best: list[list[tuple[float, int, int]]] = [[] for _ in description]
    flat = waves.reshape(-1, SIDE)
    for first in range(0, count, _CHUNK):
        chunk = pixels[first : first + _CHUNK]
        spectra = (flat @ chunk @ flat.T).reshape(len(chunk), len(waves), _FREQUENCIES, len(waves), _FREQUENCIES)
        described = _described(spectra[:, rows, :, columns].swapaxes(0, 1))[0]  # (pictures, W, 63)
        windows = _of_length_1(described[..., _COARSE])
        likeness = description @ windows.reshape(-1, windows.shape[-1]).T
        likeness = likeness.reshape(len(description), len(chunk), -1)
        window = likeness.argmax(axis=2)
        top = np.take_along_axis(likeness, window[..., None], axis=2)[..., 0]
        itself = np.arange(first, first + len(chunk)) == (np.arange(len(description)) % count)[:, None]
        top = np.where(itself, -1, top)
        near = np.sqrt(np.maximum(0, 2 - 2 * top))
        for query, place in zip(*np.nonzero(near <= _CANDIDATE), strict=True):
            best[query].append((float(near[query, place]), first + int(place), int(window[query, place])))
    return [sorted(entries)[:_NEAREST] for entries in best]


def _shows(
    pixels: NDArray[np.float32], description: NDArray[np.float32], level: tuple[float, float], rows: Span, columns: Span
) -> bool:
    """Whether a window near this one shows the picture with this `description` and `level`, its mean and contrast."""

    def measure(ends: NDArray[np.float64]) -> tuple[NDArray[np.float32], ...]:
        """Distance, mean and contrast, (T,) each, of (T, 4) windows."""
        spectra = _waves(ends[:, :2]) @ pixels @ _waves(ends[:, 2:]).swapaxes(1, 2)
        descriptions, means, contrasts = _described(spectra)
        return np.linalg.norm(descriptions - description, axis=1), means, contrasts

    ends = np.array([[*rows, *columns]])
    nearest = [values[0] for values in measure(ends)]
    for step, enough in _MOVES:
        for _ in range(4):
            tried = ends + step * _CHANGES
            heights, widths = tried[:, 1] - tried[:, 0], tried[:, 3] - tried[:, 2]
            tried = tried[(tried.min(1) >= 0) & (tried.max(1) <= 1) & (np.minimum(heights, widths) >= _LEAST)]
            measured = measure(tried)
            best = int(measured[0].argmin())
            if measured[0][best] >= nearest[0]:
                break
            ends, nearest = tried[best : best + 1], [values[best] for values in measured]
        if nearest[0] > enough:
            return False
    return bool(abs(nearest[1] - level[0]) <= _MEAN and abs(np.log(nearest[2] / max(level[1], 1e-6))) <= _CONTRAST)
