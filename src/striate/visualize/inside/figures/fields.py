"""Receptive fields drawn on the image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from striate.account.field.effective import MASS
from striate.visualize.canvas import ORANGE, VERMILION, heading, main_title, new_figure, show_image
from striate.visualize.inside.fields import Fields, LayerField
from striate.visualize.inside.figures.caption import caption
from striate.wording import shorten_path, show_sizes

_DIM = 0.25


def fields_figure(found: Fields, image: NDArray[np.uint8], *, title: str) -> Figure:
    """The image (C, H, W) uint8 once for each layer."""
    count = len(found.layers)
    ratio = image.shape[1] / image.shape[2]
    wide = max(2.5, 4.4 if count == 1 else 0)
    figure = new_figure(max(6.0, wide * count), min(wide * ratio, 8) + 1.5)
    for axes, field in zip(figure.subplots(1, count, squeeze=False).ravel(), found.layers, strict=True):
        draw_field_on(axes, field, image)
    caption(figure, _words(found))
    main_title(figure, title)
    return figure


def draw_field_on(axes: Axes, field: LayerField, image: NDArray[np.uint8]) -> None:
    """One layer: bright where its center unit looks; solid: the effective field, dashed: the theoretical one."""
    strength = np.sqrt(field.effective.map / field.effective.map.max())
    lit = _DIM * 255 + (image.astype(np.float64) - _DIM * 255) * (_DIM + (1 - _DIM) * strength)
    # What is not looked at fades into gray, whatever the image.
    show_image(axes, lit.clip(0, 255).astype(np.uint8))
    effective = zip(field.effective.first, field.effective.size, strict=True)
    for box, color, style in ((tuple(effective), VERMILION, "-"), (field.box, ORANGE, "--")):
        (top, high), (left, wide) = box
        low, end = max(left, 0), min(left + wide, image.shape[2])
        first, last = max(top, 0), min(top + high, image.shape[1])
        place = (low - 0.5, first - 0.5)
        axes.add_patch(
            Rectangle(place, end - low, last - first, fill=False, color=color, linewidth=1.8, linestyle=style)
        )
    heading(axes, shorten_path(field.effective.layer, 22))
    sizes = show_sizes([round(side) for side in field.effective.size])
    axes.set_xlabel(f"looks at {sizes}, sees {show_sizes(field.sight.size)} pixels", fontsize=8.5)


def _words(found: Fields) -> str:
    samples = found.layers[0].effective.samples
    return (
        f"Solid: the effective receptive field of the center unit, {100 * MASS:.4g} % of the gradient along each axis "
        f"(mean of {samples} random inputs), by which the image is lit; dashed: the theoretical one, as far as it lies "
        "within the image."
    )
