"""Images with boxes drawn over them; precision against recall."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.rotated_boxes import corners
from striate.visualize.canvas import (
    SMALL,
    class_colors,
    legend,
    main_title,
    name_axes,
    name_grid,
    new_figure,
    quiet_frame,
    shorten,
    show_image,
)
from striate.visualize.drawn_file import enlarged

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAMED = 24
"""Largest number of classes that are named under a picture."""


class DrawnBox(NamedTuple):
    """One box over a picture."""

    edges: tuple[float, float, float, float]
    """Left, top, right and bottom in pixels."""
    kind: int
    """Number of its class."""
    text: str = ""
    """The text at the box."""
    wrong: bool = False
    """Whether it is wrong or missed, and so drawn dashed."""
    angle: float = 0.0
    """By which it is rotated about its center, counterclockwise on the screen."""


def _corners(box: DrawnBox) -> NDArray[np.float64]:
    """(4, 2) x and y of the corners."""
    return corners(np.array([[*box.edges, box.angle]], np.float64)).reshape(4, 2)


def draw_boxes(axes: Axes, image: ArrayLike, boxes: Sequence[DrawnBox], classes: int) -> None:
    """The image (C, H, W) uint8 with boxes in the colors of their classes over a dark line, so that they show on any
    image."""
    from matplotlib.patches import Polygon

    show_image(axes, image)
    colors = class_colors(classes)
    for box in boxes:
        points = _corners(box) - 0.5  # a pixel of the picture is centered on its number
        style = (0, (3, 2)) if box.wrong else "-"
        axes.add_patch(Polygon(points, fill=False, edgecolor="black", linewidth=2.4, linestyle=style, alpha=0.5))
        axes.add_patch(Polygon(points, fill=False, edgecolor=colors[box.kind], linewidth=1.3, linestyle=style))
        if box.text:
            x, y = points[points[:, 1].argmin()]
            drawn = {"facecolor": "black", "alpha": 0.55, "pad": 0.6, "linewidth": 0}
            axes.text(x, y, box.text, fontsize=5.5, color="white", va="bottom", ha="left", bbox=drawn, clip_on=True)


def boxes_figure(
    images: ArrayLike,
    truths: Sequence[Sequence[DrawnBox]],
    predictions: Sequence[Sequence[DrawnBox]],
    classes: Sequence[str],
    *,
    title: str,
    labels: Sequence[str] = (),
) -> Figure:
    """A row a sample: the true objects (dashed: missed), and the predictions (dashed: wrong)."""
    images = np.asarray(images)
    rows, named = len(images), min(len(classes), _NAMED)
    figure = new_figure(7.2, 3.5 * rows * images.shape[2] / images.shape[3] + 0.9 + 0.19 * -(-named // 4))
    grid = figure.subplots(rows, 2, squeeze=False)
    for row, (image, truth, predicted) in enumerate(zip(images, truths, predictions, strict=True)):
        draw_boxes(grid[row, 0], image, truth, len(classes))
        draw_boxes(grid[row, 1], image, predicted, len(classes))
    name_grid(grid, labels, ("objects (dashed: missed)", "predictions (dashed: wrong)"))
    name_boxes(figure, classes)
    main_title(figure, title)
    return figure


def name_boxes(figure: Figure, classes: Sequence[str]) -> None:
    """The colors of the classes under the picture."""
    from matplotlib.patches import Patch

    colors = class_colors(len(classes))
    shown = [Patch(facecolor=colors[k], label=shorten(name, 18)) for k, name in enumerate(classes[:_NAMED])]
    legend(figure, handles=shown, loc="outside lower center", ncols=4, fontsize=SMALL)


def drawn_picture(image: NDArray[np.uint8], boxes: Sequence[DrawnBox], classes: Sequence[str]) -> NDArray[np.uint8]:
    """The image (C, H, W), enlarged by a whole number if it is small, with boxes and their texts: (H, W, 3)."""
    from PIL import Image, ImageColor, ImageDraw, ImageFont

    pixels = np.repeat(image, 3, 0) if len(image) == 1 else image
    shown, factor = enlarged(pixels.transpose(1, 2, 0), max(pixels.shape[1:]))
    picture = Image.fromarray(shown)
    pen = ImageDraw.Draw(picture)
    from matplotlib.colors import to_hex

    colors = [ImageColor.getrgb(to_hex(color)) for color in class_colors(max(1, len(classes)))]
    thick = max(1, round(max(picture.size) / 400))
    font = ImageFont.load_default(max(12 if factor > 1 else 9, 5 * thick))
    for box in boxes:
        points = [tuple(point) for point in (_corners(box) * factor).tolist()]
        pen.line([*points, points[0]], fill="black", width=thick + 2)
        pen.line([*points, points[0]], fill=colors[box.kind], width=thick)
        if box.text:
            x, y = min(points, key=lambda point: point[1])
            text = shorten(box.text, max(4, int(picture.width / font.getlength(box.text) * len(box.text)) - 1))
            left, top, right, _ = pen.textbbox((x, y), text, font=font, anchor="lb", stroke_width=1)
            x, y = x - min(left, max(0.0, right + 1 - picture.width)), y - min(0.0, top)  # inside the picture
            pen.rectangle(pen.textbbox((x, y), text, font=font, anchor="lb", stroke_width=1), fill=colors[box.kind])
            pen.text((x, y), text, fill="white", font=font, anchor="lb", stroke_width=1, stroke_fill="black")
    return np.asarray(picture)


def draw_precision_recall(axes: Axes, recalls: ArrayLike, curves: Sequence[tuple[str, ArrayLike]]) -> None:
    """Precision at these recalls, a line with a name for each class, at most the first eight."""
    colors = class_colors(min(8, max(1, len(curves))))
    for (name, precision), color in zip(curves, colors, strict=False):
        axes.plot(np.asarray(recalls), np.asarray(precision), color=color, label=shorten(name, 24), linewidth=1.4)
    axes.set_xlim(0, 1.01)
    axes.set_ylim(0, 1.02)
    quiet_frame(axes)
    name_axes(axes, "recall", "precision")
    axes.legend(fontsize=SMALL, frameon=False, loc="lower left")
