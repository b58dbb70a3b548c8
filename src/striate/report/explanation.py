"""An explanation as one HTML page, with its pictures: maps over the image, rectangles, changes."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_erosion

from striate.data.media.clip.clip_picture import animation, in_flow_colors
from striate.data.media.every_medium import medium_of
from striate.report.page import page_environment
from striate.visualize.attribution.change import Covering
from striate.visualize.attribution.checks import AttributionMap
from striate.visualize.attribution.explanation_record import (
    LEGEND,
    Explanation,
    as_pixels,
    covering_line,
    nudge_line,
    part_lines,
    prediction_line,
    trust_lines,
)
from striate.visualize.attribution.maps import Method
from striate.visualize.attribution.removal import removed
from striate.visualize.page_parts import Table
from striate.wording import percent, probability_text, show_shape

Pixels = NDArray[np.uint8]

# Okabe and Ito's vermilion and sky blue, brighter, so that they are visible on black too.
FOR, AGAINST = (255, 110, 0), (40, 150, 255)
_DIM = 0.55
_SMALL = 100


def overlay(raw: NDArray[Any], shown: AttributionMap) -> Pixels:
    """The image, or each frame of a clip, in gray (…, H, W, 3), orange where the map supports the prediction, blue
    where it opposes it; the highest half percent of values has full color."""
    values = shown.values.astype(np.float64)
    top = float(np.quantile(np.abs(values), 0.995)) or float(np.abs(values).max()) or 1.0
    share = (np.abs(values) / top).clip(0, 1)[..., None] ** 0.8
    gray = as_pixels(raw).mean(-1, keepdims=True) * _DIM
    color = np.where(values[..., None] >= 0, np.array(FOR, np.float64), np.array(AGAINST, np.float64))
    mixed = gray * (1 - share) + color * share
    return np.asarray(mixed.round().clip(0, 255), np.uint8)


def outlined(raw: NDArray[Any], covering: Covering, blurred: NDArray[Any]) -> Pixels:
    """The image (H, W, 3) with the blurred rectangle, and a line around it."""
    pixels, other = as_pixels(raw).copy(), as_pixels(blurred)
    inside = np.zeros(pixels.shape[:2], bool)
    (top, left), (height, width) = covering.first, covering.size
    inside[top : top + height, left : left + width] = True
    pixels[inside] = other[inside]
    line = max(1, min(pixels.shape[:2]) // 100)
    pixels[inside & ~binary_erosion(inside, iterations=line, border_value=0)] = FOR
    return pixels


def difference(raw: NDArray[Any], changed: NDArray[Any]) -> Pixels:
    """The difference of the channel means: gray for none, black and white for the largest difference."""
    gap = (changed.astype(np.float64) - raw.astype(np.float64)).mean(0)
    most = float(np.abs(gap).max()) or 1.0
    gray = (127.5 + 127.5 * gap / most).round().clip(0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, -1)


def as_png(pixels: Pixels) -> str:
    """The picture (H, W, 3) as a PNG in base64."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return b64encode(file.getvalue()).decode("ascii")


def enlarged(pixels: Pixels) -> bool:
    """Whether the page enlarges the pixels as squares."""
    return bool(max(pixels.shape[-3:-1]) <= _SMALL)


Row = tuple[str | int | float | None, ...]

ABOUT: dict[Method, str] = {
    "saliency": "How fast the prediction changes with each value of the input: the absolute gradient.",
    "integrated-gradients": "What each value adds to the prediction on the way from the blurred input to the input.",
    "smoothgrad": "The gradient, averaged over noisy copies of the input.",
    "grad-cam": "Where feature maps of a layer support the prediction.",
    "occlusion": "How much the prediction falls when a rectangle there is blurred.",
    "deconvnet": "The prediction, projected back to the input; each ReLU on the way back passes only values above 0.",
    "guided-backprop": "The gradient; on the way back, each ReLU passes only values above 0.",
}
_WIDTH, _HEIGHT, _MARGIN = 260.0, 110.0, 6.0  # of the curve; below it and in front of it, its axes
_LEFT = 46.0


@dataclass(frozen=True)
class Shown:
    """A picture of the page."""

    png: str
    """The file in base64."""
    words: str
    """The caption."""
    enlarged: bool
    """Whether the page enlarges its pixels as squares."""
    kind: str = "png"
    """`png`, or `gif` for an animation."""


@dataclass(frozen=True)
class MapShown:
    """A map on the page."""

    one: AttributionMap
    """The map."""
    about: str
    """What the method measures."""
    picture: Shown | None
    """None for a table."""
    falling: str
    """The line of the deletion curve, as points of an SVG of 260 × 140."""
    random: str
    """The same for random order."""
    low: str
    """The lower end of the vertical axis."""
    high: str
    """The upper end of the vertical axis."""
    most: str
    """The end of the horizontal axis."""
    numbers: Table
    """The deletion curve as a table."""


def explanation_page(explained: Explanation) -> str:
    """The page as HTML text: the prediction, the maps, what would change it, the nearest training samples."""
    image = explained.input.ndim > 2
    page = page_environment().get_template("explanation.html")
    return page.render(
        explained=explained,
        answer=prediction_line(explained).removeprefix(f"{explained.subject}: "),
        lines=trust_lines(explained),
        part=part_lines(explained),
        legend=LEGEND,
        percent_text=probability_text,
        picture=_input(explained) if image else None,
        given=f"{_noun(explained)} as the network {'hears' if explained.played else 'sees'} it",
        heard=b64encode(explained.played).decode("ascii"),
        maps=[_map(explained, one) for one in explained.maps.maps],
        table=None if image else _features(explained),
        changes=_changes(explained),
        neighbors=[_neighbor_picture(explained, place) for place in range(len(explained.nearest.neighbors))],
        rows=None if image else _neighbor_table(explained),
    )


def _noun(explained: Explanation) -> str:
    known = explained.preparation
    return "image" if known is None else medium_of(known.kind).a.partition(" ")[2]


def _input(explained: Explanation) -> Shown:
    words = f"{explained.subject}, as the network {'hears' if explained.played else 'sees'} it"
    raw = explained.input
    return _moving(explained, _rows(raw), words) if raw.ndim == 4 else _framed(explained, as_pixels(raw), words)


def _moving(explained: Explanation, rows: Sequence[Pixels], words: str) -> Shown:
    """An animation of rows of frames of a clip, or of slices of a volume, (T, H, W, 3) each, side by side."""
    known = explained.preparation
    return _animated(rows if known is None else [medium_of(known.kind).framed(row, known) for row in rows], words)


def _animated(rows: Sequence[Pixels], words: str) -> Shown:
    return Shown(b64encode(animation(rows)).decode("ascii"), words, enlarged(rows[0]), "gif")


def _still_picture(pixels: Pixels, words: str) -> Shown:
    if pixels.ndim == 4:
        return _animated((pixels,), words)
    return Shown(as_png(pixels), words, enlarged(pixels))


def _framed(explained: Explanation, pixels: Pixels, words: str) -> Shown:
    """The picture with the axes of its medium."""
    known = explained.preparation
    framed = pixels if known is None else medium_of(known.kind).framed(pixels, known)
    return _still_picture(framed, words)


def _map(explained: Explanation, one: AttributionMap) -> MapShown:
    picture = None
    if explained.input.ndim > 2:
        *frame, row, column = one.peak
        plane = "slice" if explained.preparation is None else medium_of(explained.preparation.kind).plane
        at = f"{plane} {frame[0]}, " if frame else ""
        words = f"{one.name}: most important at {at}row {row}, column {column}"
        marked = overlay(explained.input, one)
        picture = (
            _moving(explained, (*_rows(explained.input), marked), words) if frame else _framed(explained, marked, words)
        )
    check = one.check
    rows = tuple(zip((percent(share, 0) for share in check.shares), check.falling, check.random, strict=True))
    numbers = Table(f"Deletion, {one.name}", ("taken out", "most important first", "random order"), rows)
    ends = (*check.falling, *check.random, *((0.0, 1.0) if explained.of_class else ()))
    low, high = min(ends), max(ends)
    falling, random = (_line(values, low, high) for values in (check.falling, check.random))
    most = percent(check.shares[-1], 0)
    return MapShown(one, ABOUT[one.method], picture, falling, random, f"{low:.3g}", f"{high:.3g}", most, numbers)


def _rows(raw: NDArray[Any]) -> list[Pixels]:
    """The frames of a clip, and their motion if it has both; the slices of a volume."""
    both = len(raw) > 3 and raw.dtype == np.uint8
    return [as_pixels(raw), *([in_flow_colors(raw[3:])] if both else [])]


def _line(values: tuple[float, ...], low: float, high: float) -> str:
    across = np.linspace(_LEFT, _WIDTH - _MARGIN, len(values))
    up = [(value - low) / (high - low) if high > low else 0.5 for value in values]
    down = [_MARGIN + (1 - share) * (_HEIGHT - 2 * _MARGIN) for share in up]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))


def _features(explained: Explanation) -> Table:
    """A row for each feature: its value, and its value in each map, as a share of the map's largest."""
    maps = explained.maps.maps
    tops = [float(np.abs(one.values).max()) or 1.0 for one in maps]
    order = np.argsort(-np.abs(maps[0].values), kind="stable")
    rows = tuple(
        (
            explained.features[place],
            float(explained.input[place]),
            *(round(float(one.values[place]) / top, 3) for one, top in zip(maps, tops, strict=True)),
        )
        for place in order
    )
    caption = "Each feature, and its importance as a share of the largest: negative opposes the prediction"
    return Table(caption, ("feature", "value", *(one.name for one in maps)), rows)


def _changes(explained: Explanation) -> list[tuple[str, list[Shown], Table | None]]:
    """The changes that change the prediction: sentences with their pictures or tables."""
    if not explained.of_class:
        return []
    image, found = explained.input.ndim > 2, []
    if explained.input.ndim == 3:
        found.append((covering_line(explained), _covering_pictures(explained), None))
    pictures, table, nudge = [], None, explained.nudge
    if nudge is not None and image:
        pictures.append(_framed(explained, as_pixels(nudge.changed), f"The input after the change: {nudge.prediction}"))
        words = "The change alone, amplified to the full range of gray"
        pictures.append(_framed(explained, difference(explained.input, nudge.changed), words))
    elif nudge is not None:
        rows = tuple(
            (name, float(before), float(after))
            for name, before, after in zip(explained.features, explained.input, nudge.changed, strict=True)
        )
        table = Table("The change", ("feature", "now", f"then: {nudge.prediction}"), rows)
    return [*found, (nudge_line(explained), pictures, table)]


def _covering_pictures(explained: Explanation) -> list[Shown]:
    if explained.covering is None:
        return []
    blurred = removed(torch.from_numpy(explained.input.astype(np.float32))[None])[0].numpy()
    raw = explained.input
    pixels = outlined(raw, explained.covering, blurred.round().astype(raw.dtype) if raw.dtype == np.uint8 else blurred)
    words = f"A blurred rectangle of {show_shape(explained.covering.size)}, outlined"
    return [_framed(explained, pixels, f"{words}: {explained.classes[explained.covering.predicted]}")]


def _neighbor_picture(explained: Explanation, place: int) -> Shown | None:
    neighbor = explained.nearest.neighbors[place]
    if neighbor.input.ndim < 3:
        return None
    return _framed(explained, as_pixels(neighbor.input), f"{neighbor.path}: {neighbor.label}")


def _neighbor_table(explained: Explanation) -> Table | None:
    """The explained row of a table, and the nearest training rows."""
    found = explained.nearest.neighbors
    if not found:
        return None
    own: Row = ("this one", explained.label or explained.fields.get("value"), None, *map(float, explained.input))
    rows: list[Row] = [(n.path, n.label, n.similarity, *map(float, n.input)) for n in found]
    return Table("The nearest training samples", ("sample", "label", "similarity", *explained.features), (own, *rows))
