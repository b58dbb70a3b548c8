"""Images made for a network, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from striate.visualize.canvas import INK, SMALL, main_title, new_figure, shorten
from striate.visualize.inside.figures.caption import caption
from striate.visualize.inside.figures.mosaic import columns_for
from striate.visualize.inside.synthesis import Inversions, MaximizedUnits
from striate.wording import shorten_path

_TILE = 1.7  # inches


def maximized_figure(found: MaximizedUnits, *, title: str, names: Sequence[str] = ()) -> Figure:
    """An image for each unit; `names` of the units of the layer, where they are classes."""
    under = [shorten(names[unit], 16) if names else f"unit {unit}" for unit in found.units]
    under = [f"{name}\n{a:.3g} → {b:.3g}" for name, a, b in zip(under, found.before, found.after, strict=True)]
    words = (
        f"Images made by {found.steps} steps along the gradient so that a unit of {found.layer} answers strongly; "
        "beneath, its mean answer to noise and to the image. What a unit could be led to, not what it meets."
    )
    return _page(list(found.images), under, title, words)


def inverted_figure(found: Inversions, image: NDArray[np.float32], *, title: str) -> Figure:
    """The image (C, H, W), 0 to 1, and what each layer still knows of it."""
    under = [
        "the image",
        *(
            f"{shorten_path(name, 18)}\n{_percent(error)} off"
            for name, error in zip(found.layers, found.errors, strict=True)
        ),
    ]
    words = (
        f"Images made by {found.steps} steps along the gradient so that a layer answers as it does to the image; what "
        "it no longer knows is made up. Beneath, how far its answer still is, squared, as a share of the answer."
    )
    return _page([image, *found.images], under, title, words)


def draw_made(axes: Axes, image: NDArray[np.float32], name: str) -> None:
    """One image (C, H, W) with values 0 to 1, and its name beneath; a signal as lines."""
    if image.ndim == 2:
        axes.plot(image.T, linewidth=1)
    elif image.ndim == 3 and len(image) in (1, 3):
        shown = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        axes.imshow(shown.clip(0, 1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        axes.imshow(image.reshape(-1, image.shape[-1]), cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(name, fontsize=SMALL, color=INK, parse_math=False)


def _page(images: Sequence[NDArray[np.float32]], names: Sequence[str], title: str, words: str) -> Figure:
    columns = columns_for(len(images), 1, 1, ratio=2.0) if len(images) > 4 else len(images)
    rows = -(-len(images) // columns)
    figure = new_figure(max(6.0, columns * _TILE), rows * (_TILE + 0.35) + 1.0)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image, name in zip(grid, images, names, strict=False):
        draw_made(axes, image, name)
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    caption(figure, words)
    main_title(figure, title)
    return figure


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 1 else f"{100 * share:.0f} %"
