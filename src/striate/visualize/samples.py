"""Rows of images with names at their left and words beneath."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike, NDArray

from striate.visualize.canvas import FAINT, INK, SMALL, main_title, new_figure, shorten, show_image
from striate.visualize.masks import draw_mask, name_classes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 18
_SIDE = 1.2  # inches for the longer side of an image
_LEAST = 5.5  # inches, so that title and words find room


@dataclass(frozen=True)
class SampleRow:
    """`images` (K, C, H, W) uint8; `masks` (K, H, W) class numbers, 255 = ignored, drawn over them; `captions` of the
    images, where there are some."""

    name: str
    images: NDArray
    masks: NDArray | None = None
    captions: tuple[str, ...] = ()


def samples_figure(
    rows: Sequence[SampleRow],
    *,
    title: str,
    words: str = "",
    columns: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Figure:
    """The rows one under the other, with `columns` as headings and `words` beneath; `classes` of the masks, if any."""
    across = max(len(row.images) for row in rows)
    height, width = rows[0].images.shape[-2:]
    tall, wide = _SIDE * height / max(height, width), _SIDE * width / max(height, width)
    # A long side of a thousand times the short one is still a picture.
    tall, wide = max(tall, 0.15), max(wide, 0.3)
    label = 0.085 * max((len(shorten(row.name, _LETTERS)) for row in rows), default=0) + 0.1
    page = max(_LEAST, label + across * (wide + 0.06))
    lines = textwrap.wrap(words, int(page * 72 / (SMALL * 0.56))) if words else []
    captioned = any(row.captions for row in rows)
    legend = 0.3 + 0.19 * -(-min(len(classes), 25) // 4) if rows[0].masks is not None else 0
    extra = 0.45 + 0.17 * len(lines) + (0.2 if columns else 0) + legend
    figure = new_figure(page, len(rows) * (tall + (0.25 if captioned else 0.06)) + extra)
    grid = figure.subplots(len(rows), across, squeeze=False)
    for axes_of_row, row in zip(grid, rows, strict=True):
        _draw_row(axes_of_row, row, classes)
    for axes, heading in zip(grid[0], columns, strict=False):
        axes.set_title(heading, fontsize=SMALL, color=INK, parse_math=False)
    if rows[0].masks is not None:
        from matplotlib.font_manager import FontProperties

        # Two texts below the images would lie over each other, so the words are the legend's title.
        name_classes(figure, classes)
        figure.legends[0].set_title("\n".join(lines), FontProperties(size=SMALL))
        figure.legends[0].set_alignment("left")
    elif lines:
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=SMALL, color=INK, parse_math=False)
    main_title(figure, title)
    return figure


def _draw_row(grid: Sequence[Axes], row: SampleRow, classes: Sequence[str]) -> None:
    for axes in grid[len(row.images) :]:
        axes.set_axis_off()
    for k, (axes, image) in enumerate(zip(grid, row.images, strict=False)):
        _draw(axes, image, None if row.masks is None else row.masks[k], len(classes))
        if row.captions:
            axes.set_xlabel(shorten(row.captions[k], _LETTERS), fontsize=SMALL, color=INK, parse_math=False)
    if row.name:
        name = shorten(row.name, _LETTERS)
        grid[0].set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize=SMALL, color=INK, labelpad=6, parse_math=False
        )


def _draw(axes: Axes, image: ArrayLike, mask: ArrayLike | None, classes: int) -> None:
    if mask is None:
        show_image(axes, image)
    else:
        draw_mask(axes, image, mask, classes)
    axes.spines[:].set(color=FAINT, linewidth=0.5)
