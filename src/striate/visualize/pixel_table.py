"""A part of a picture as numbers, channel by channel, in lines of at most 80 letters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from striate.errors import UsageError
from striate.records import option_remedy
from striate.visualize.picture import Bytes, Picture, whole_numbers

_WIDTH = 79
_LABEL = 6
_CELL = 4
_COLUMNS = (_WIDTH - _LABEL) // _CELL
_ROWS = {1: 18, 2: 10, 3: 8, 4: 6}


@dataclass(frozen=True)
class PixelTable:
    """The values of a region of a picture."""

    size: tuple[int, int]
    """Width and height of the picture."""
    region: tuple[int, int, int, int]
    """(x, y, width, height) of the region."""
    values: dict[str, Bytes]
    """(H, W) uint8 by channel, of the region."""
    ranges: dict[str, tuple[int, float, int]]
    """Smallest, mean and largest value by channel, of all pixels of the picture."""

    def __str__(self) -> str:
        x, y, wide, high = self.region
        names = ", ".join(self.values)
        shown = "all of it" if (wide, high) == self.size else f"x = {x} to {x + wide - 1}, y = {y} to {y + high - 1}"
        lines = [
            f"{self.size[0]} × {self.size[1]} pixels (width × height): {names}",
            f"values from 0, dark, to 255, bright; shown: {shown}",
        ]
        for name, values in self.values.items():
            low, mean, most = self.ranges[name]
            lines += ["", f"{name} (whole picture: {low} to {most}, mean {mean:.1f})", *_lines(values, x, y)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The record as in a `--json` document; values are rows of numbers."""
        return {
            "width": self.size[0],
            "height": self.size[1],
            "region": dict(zip(("x", "y", "width", "height"), self.region, strict=True)),
            "channels": {
                name: {**dict(zip(("min", "mean", "max"), self.ranges[name], strict=True)), "values": values.tolist()}
                for name, values in self.values.items()
            },
        }


def pixel_table(picture: Picture, region: str | None = None, channel: str | None = None) -> PixelTable:
    """The values in `region` (`x,y,width,height`; by default the upper left, as much as fits a terminal), of one
    channel or all. Raises UsageError for an unknown channel, and for a region outside the picture."""
    planes = dict(zip(picture.channels, np.moveaxis(picture.values, -1, 0), strict=True))
    if picture.alpha is not None:
        planes["alpha"] = picture.alpha
    if channel is not None:
        if channel not in planes:
            raise UsageError("--channel", channel, " or ".join(planes), option_remedy("channel", next(iter(planes))))
        planes = {channel: planes[channel]}
    width, height = picture.size
    found = _read_region(region, picture.size)
    x, y, wide, high = found or (0, 0, min(width, _COLUMNS), min(height, _ROWS[len(planes)]))
    values = {name: plane[y : y + high, x : x + wide] for name, plane in planes.items()}
    ranges = {name: (int(plane.min()), float(plane.mean()), int(plane.max())) for name, plane in planes.items()}
    return PixelTable(picture.size, (x, y, wide, high), values, ranges)


def _read_region(text: str | None, size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """`x,y,width,height` as numbers of pixels inside a picture of `size` (width, height). Raises UsageError."""
    if text is None:
        return None
    (width, height), example = size, option_remedy("region", f"0,0,{min(size[0], 16)},{min(size[1], 16)}")
    numbers = whole_numbers(text, 4)
    expected = f"x,y,width,height inside {width} × {height} pixels: x 0 to {width - 1}, y 0 to {height - 1}"
    if numbers is None:
        raise UsageError("--region", text, expected, example)
    x, y, wide, high = numbers
    if not (0 <= x < width and 0 <= y < height and wide > 0 and high > 0):
        raise UsageError("--region", text, expected, example)
    if x + wide > width or y + high > height:
        got = f"{text}, which ends at x = {x + wide - 1}, y = {y + high - 1}"
        fits = option_remedy("region", f"{x},{y},{min(wide, width - x)},{min(high, height - y)}")
        raise UsageError("--region", got, expected, fits)
    return x, y, wide, high


def _lines(values: Bytes, x: int, y: int) -> Iterator[str]:
    """Rows of numbers under their column numbers; tables wider than a line continue below."""
    label = max(_LABEL, len(str(y + len(values) - 1)) + 1)
    cell = max(_CELL, len(str(x + values.shape[1] - 1)) + 1)
    step = max(1, (_WIDTH - label) // cell)
    for left in range(0, values.shape[1], step):
        part = values[:, left : left + step]
        yield (
            ("" if left == 0 else "\n") + " " * label + "".join(f"{x + left + k:{cell}}" for k in range(part.shape[1]))
        )
        for k, row in enumerate(part):
            yield f"{y + k:{label - 1}} " + "".join(f"{value:{cell}}" for value in row)
