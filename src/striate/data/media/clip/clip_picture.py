"""Clips as pictures: a strip of frames with their flow, and an animation of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.clip.flow import flow_pixels

_SHOWN, _GAP, _HEIGHT = 4, 3, 96
"""Frames of a strip, pixels between them, and the approximate height of each."""
_FULL = 2.0
"""Motions of at least so many pixels per step have full color."""


def in_flow_colors(flow: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(2, …) bytes of flow as (…, 3): hue is the direction (red to the right, green and blue to the left), brightness
    the speed, black where nothing moves."""
    right, down = flow_pixels(flow)
    angle = np.arctan2(-down, right)
    strength = np.hypot(right, down) / _FULL
    waves = [0.5 + 0.5 * np.cos(angle - k * 2 * np.pi / 3) for k in range(3)]
    colors: NDArray[np.uint8] = (255 * np.stack(waves, -1) * strength.clip(0, 1)[..., None]).round().astype(np.uint8)
    return colors


def rows_of_frames(
    color: NDArray[np.uint8] | None, flow: NDArray[np.uint8] | None, *further: NDArray[np.uint8]
) -> list[NDArray[np.uint8]]:
    """The pictures of each frame to show below each other, (T, H, W, 3) each: color, flow, and `further`, which are
    such already."""
    found = [] if color is None else [np.moveaxis(color, 0, -1)]
    return [*found, *([] if flow is None else [in_flow_colors(flow)]), *further]


def strip(color: NDArray[np.uint8] | None, flow: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """(H, W, 3): four frames from left to right in the order of time, from (3, T, H, W) and (2, T, H, W)."""
    rows = []
    for row in rows_of_frames(color, flow):
        chosen = [int((k + 0.5) * len(row) / min(_SHOWN, len(row))) for k in range(min(_SHOWN, len(row)))]
        rows.append(_joined([_enlarged(row[k]) for k in chosen], 1))
    return _joined(rows, 0)


def animation(rows: Sequence[NDArray[np.uint8]]) -> bytes:
    """A looping GIF of rows (T, H, W, 3) side by side."""
    frames = [
        Image.fromarray(_joined([_enlarged(row[k]) for row in rows], 1)).quantize(128) for k in range(len(rows[0]))
    ]
    out = BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:], duration=120, loop=0)
    return out.getvalue()


def _enlarged(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    times = max(1, round(_HEIGHT / frame.shape[0]))
    return frame.repeat(times, 0).repeat(times, 1)


def _joined(parts: Sequence[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    shape = list(parts[0].shape)
    shape[axis] = _GAP
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (gap, part)][1:], axis)
