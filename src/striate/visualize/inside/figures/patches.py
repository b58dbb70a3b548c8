"""Exciting patches: a row a unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.visualize.canvas import INK, SMALL, main_title, new_figure, shorten
from striate.visualize.inside.figures.caption import caption
from striate.visualize.inside.figures.mosaic import Picture, columns_for, show_mosaic
from striate.visualize.inside.patches import ExcitingPatches, UnitPatches, cut
from striate.wording import show_sizes

_TILE = 0.8  # inches
_SMALLEST = 5


def patches_figure(
    found: ExcitingPatches, images: NDArray[np.uint8], *, title: str, labels: Sequence[str] = ()
) -> Figure:
    """The patches, cut from `images` (N, C, H, W) uint8, a row a unit; of one unit alone, a page. `labels` (N,): class
    names, of which the commonest is told."""
    if len(found.units) == 1:
        unit = found.units[0]
        columns = columns_for(len(unit.samples), 1, 1)
        rows = -(-len(unit.samples) // columns)
        figure = new_figure(max(6.0, columns * 1.1), rows * 1.12 + 1.2)
        draw_patches(figure.subplots(), unit, images, columns)
        more = f" {_name(unit, labels)}.".replace("\n", ": ") if labels else ""
    else:
        across = max(len(unit.samples) for unit in found.units)
        figure = new_figure(across * _TILE + 1.9, len(found.units) * _TILE * 1.05 + 1.0)
        for axes, unit in zip(figure.subplots(len(found.units), 1), found.units, strict=True):
            draw_patches(axes, unit, images, across)
            axes.set_ylabel(
                _name(unit, labels), rotation=0, ha="right", va="center", fontsize=SMALL, color=INK, labelpad=6,
                parse_math=False,
            )  # fmt: skip
        more = ""
    caption(figure, patches_words(found) + more)
    main_title(figure, title)
    return figure


def draw_patches(axes: Axes, unit: UnitPatches, images: NDArray[np.uint8], columns: int) -> None:
    """The patches of one unit, the most exciting first."""
    tiles: list[Picture] = []
    for sample, box in zip(unit.samples, unit.boxes, strict=True):
        part = cut(images[sample], box).astype(np.float64) / 255
        tiles.append(np.moveaxis(part.repeat(3, 0) if len(part) == 1 else part, 0, -1))
    show_mosaic(axes, tiles, columns)


def patches_words(found: ExcitingPatches) -> str:
    """Which patches these are."""
    whole = found.sight.whole
    what = (
        "whole images, which is what its units see"
        if whole
        else f"patches of {show_sizes(found.sight.size)} pixels, as much as a unit sees"
    )
    silent = f" {found.silent} of {found.shape[0]} units answer to no sample." if found.silent else ""
    return (
        f"{found.layer}: {what}; of each unit those it answers to most, from the left, of {found.n:,} samples.{silent}"
    )


def _name(unit: UnitPatches, labels: Sequence[str]) -> str:
    said = f"unit {unit.unit}"
    if labels:
        (name, count), *_ = Counter(labels[sample] for sample in unit.samples).most_common(1)
        said += f"\n{shorten(name, 12)} {count}/{len(unit.samples)}"
    return said
