"""A picture of a sound: its spectrogram in color, with axes."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_COLORS = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))
"""From quiet to loud: matplotlib's magma."""
_LETTERS, _LEFT, _ABOVE, _BELOW, _RIGHT, _TICK = 20, 50, 8, 30, 10, 5
"""Pixels of letters, of the margins, and of ticks: readable where the picture is an inch and a half wide."""
_PLOT = (128, 240)
"""Approximate height and width of the spectrogram in pixels; small ones are enlarged by integer factors."""
_MARKS = (100, 500, 1_000, 2_000, 5_000, 10_000, 20_000)


@cache
def _palette() -> NDArray[np.uint8]:
    places = np.linspace(0, 255, len(_COLORS))
    channels = [np.interp(np.arange(256), places, [color[k] for color in _COLORS]) for k in range(3)]
    palette: NDArray[np.uint8] = np.rint(np.stack(channels, 1)).astype(np.uint8)
    return palette


def in_color(levels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 3) colors of (H, W) levels, from their 5th percentile to the largest."""
    low, high = float(np.quantile(levels, 0.05)), float(levels.max())
    scaled = (levels - low) * (255 / (high - low)) if high > low else np.zeros(levels.shape)
    colors: NDArray[np.uint8] = _palette()[np.rint(scaled.clip(0, 255)).astype(np.uint8)]
    return colors


def _plot_size(shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = (max(1, about // side) * side for about, side in zip(_PLOT, shape, strict=True))
    return max(height, _PLOT[0]), min(width, 4 * _PLOT[1])


def waveform_picture(waveform: NDArray[np.float32], frames: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) picture of a waveform (samples,): the range of amplitudes at each moment, scaled to the loudest; as
    wide as the picture of a spectrogram with `frames`, its bands and frames."""
    _, width = _plot_size(frames)
    height = _PLOT[0] // 2
    parts = np.array_split(waveform, width) if len(waveform) >= width else [waveform[k : k + 1] for k in range(width)]
    ends = np.array([(part.min(), part.max()) if len(part) else (0.0, 0.0) for part in parts])
    top = float(np.abs(ends).max()) or 1.0
    page = Image.new("RGB", (_LEFT + width + _RIGHT, height + 2 * _ABOVE), "white")
    draw = ImageDraw.Draw(page)
    for x, (low, high) in enumerate((_ABOVE + height / 2 * (1 - ends / top)).tolist()):
        draw.line(((_LEFT + x, low), (_LEFT + x, high)), _COLORS[1])
    return np.asarray(page)


def with_axes(pixels: NDArray[np.uint8], centers: NDArray[np.float64], seconds: float) -> NDArray[np.uint8]:
    """A picture (bands, frames, 3) on the grid of a spectrogram, enlarged, with its axes."""
    height, width = _plot_size(pixels.shape[:2])
    plot = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
    page = Image.new("RGB", (_LEFT + width + _RIGHT, _ABOVE + height + _BELOW), "white")
    page.paste(plot, (_LEFT, _ABOVE))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_LETTERS)
    bottom = _ABOVE + height
    free: float = bottom + _LETTERS
    for mark in _MARKS:
        band = float(np.interp(mark, centers, np.arange(len(centers)), left=-1, right=-1))
        y = bottom - height * (band + 0.5) / len(centers)
        if band >= 0 and free - y >= 1.2 * _LETTERS:
            free = y
            draw.line(((_LEFT - _TICK, y), (_LEFT, y)), "black")
            text = f"{mark // 1000}k" if mark >= 1000 else str(mark)
            draw.text((_LEFT - _TICK - 3, max(y, _ABOVE + _LETTERS / 2)), text, "black", font, "rm")
    draw.text((_LEFT - _TICK - 3, bottom + _TICK), "Hz", "black", font, "ra")
    for share, anchor in ((0.0, "la"), (0.5, "ma"), (1.0, "ra")):
        x = _LEFT + share * (width - 1)
        draw.line(((x, bottom), (x, bottom + _TICK)), "black")
        draw.text((x, bottom + _TICK), f"{share * seconds:.2g}{' s' if share == 1 else ''}", "black", font, anchor)
    return np.asarray(page)
