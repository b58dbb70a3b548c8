"""Points over images: predicted ones, true ones, and the skeleton that joins them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw

from striate.visualize.canvas import SMALL, heading, main_title, new_figure, show_image
from striate.visualize.drawn_file import enlarged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Edges = Sequence[tuple[int, int]]

_POINT, _EDGE, _TRUE, _UNSURE = (255, 210, 0), (0, 190, 255), (255, 255, 255), (255, 90, 60)
_SURE = 0.5
"""Points with less confidence are crosses in another color."""
_DOT, _RING = 72, 1.8
"""A dot has a radius of the longer side by this number, and a ring by how much more, so that it is around its dot."""


def drawn_points(image: ArrayLike, points: Any, skeleton: Edges, truth: Any = None) -> NDArray[np.uint8]:
    """(H, W, 3) the image (C, H, W) uint8, enlarged if it is small, with points (K, 3): x and y in pixels from the
    upper left corner, and confidence, 0 for a missing point. `truth` (K, 3 or more): true points, drawn as rings, each
    with a line to the predicted one."""
    planes = np.asarray(image)
    colors = np.moveaxis(planes[[0, 0, 0]] if len(planes) == 1 else planes, 0, -1)
    pixels, factor = enlarged(colors, max(colors.shape[:2]))
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    size = max(picture.size) / _DOT
    thick, ring = max(1, round(size / 2)), _RING * size
    found = np.asarray(points, np.float64)
    places, seen = found[:, :2] * factor, found[:, 2] > 0
    for one, two in skeleton:
        if seen[one] and seen[two]:
            draw.line([tuple(places[one]), tuple(places[two])], _EDGE, thick)
    if truth is not None:
        true = np.asarray(truth, np.float64)
        for (x, y), own, known in zip(true[:, :2] * factor, places, true[:, 2] > 0, strict=True):
            if known:
                draw.line([(x, y), tuple(own)], _TRUE, max(1, thick // 2))
                # White on black, so that it shows on any image.
                for radius, color, width in ((ring + 1, "black", thick + 2), (ring, _TRUE, thick)):
                    draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=color, width=width)
    for (x, y), sure, known in zip(places, found[:, 2], seen, strict=True):
        if not known:
            continue
        if sure >= _SURE:
            draw.ellipse((x - size, y - size, x + size, y + size), fill=_POINT, outline="black")
        else:
            arm = 1.4 * size
            for reach, color, width in ((arm + 1, "black", thick + 2), (arm, _UNSURE, thick)):
                for down in (reach, -reach):
                    draw.line((x - reach, y - down, x + reach, y + down), color, width)
    return np.asarray(picture)


def points_figure(drawn: Sequence[NDArray[np.uint8]], *, title: str, labels: Sequence[str]) -> Figure:
    """Images with their points side by side, up to four a row; `labels` above them."""
    columns = min(4, len(drawn))
    rows = -(-len(drawn) // columns)
    tallest = max(image.shape[0] / image.shape[1] for image in drawn)
    figure = new_figure(2.3 * columns, 2.3 * rows * min(2.0, tallest) + 0.5 + 0.25 * rows)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, label in zip(grid.flat, drawn, labels, strict=False):
        draw_points(axes, image, label)
    main_title(figure, title)
    return figure


def draw_points(axes: Axes, drawn: NDArray[np.uint8], label: str) -> None:
    """One image from `drawn_points` under its label."""
    show_image(axes, np.moveaxis(drawn, -1, 0))
    heading(axes, label)
    axes.title.set_fontsize(SMALL)
