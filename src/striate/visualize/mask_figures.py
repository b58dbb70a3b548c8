"""Images with their true and their predicted masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.annotations.masks import IGNORED
from striate.visualize.canvas import (
    INK,
    class_colors,
    legend,
    main_title,
    name_grid,
    new_figure,
    shorten,
    show_image,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEGEND = 24
"""Largest number of classes that are named under the picture."""
_ALPHA = 0.6
_BACKGROUND = frozenset({"0", "background", "void"})
"""Names of a first class that is the background and has no color, so that the image is visible."""


def seen_colors(count: int) -> list[tuple[float, float, float]]:
    """The colors of `class_colors` as they look over a medium gray, which legends show."""
    from matplotlib.colors import to_rgb

    rest = (1 - _ALPHA) * 0.5
    return [(_ALPHA * r + rest, _ALPHA * g + rest, _ALPHA * b + rest) for r, g, b in map(to_rgb, class_colors(count))]


def covered(classes: Sequence[str]) -> list[bool]:
    """Whether each class is drawn over the image: all but a background."""
    return [number > 0 or name.lower() not in _BACKGROUND for number, name in enumerate(classes)]


def _opacity(classes: Sequence[str]) -> NDArray[np.float64]:
    return _ALPHA * np.array(covered(classes), np.float64)


def masks_figure(
    images: ArrayLike,
    truths: ArrayLike,
    predictions: ArrayLike,
    classes: Sequence[str],
    *,
    title: str,
    labels: Sequence[str] = (),
) -> Figure:
    """A row a sample: image, truth, prediction, over the image in gray; `labels` beside the images.

    `images`: (N, C, H, W) uint8; `truths`, `predictions`: (N, H, W) class numbers, 255 in `truths` = ignored.
    """
    images, truths, predictions = np.asarray(images), np.asarray(truths), np.asarray(predictions)
    named = min(len(classes), LEGEND + 1)
    rows, width = len(images), 7.2
    figure = new_figure(width, 2.4 * rows * images.shape[2] / images.shape[3] + 0.8 + 0.19 * -(-named // 4))
    grid = figure.subplots(rows, 3, squeeze=False)
    for row, (image, truth, prediction) in enumerate(zip(images, truths, predictions, strict=True)):
        show_image(grid[row, 0], image)
        gray = _gray(image)
        draw_mask(grid[row, 1], gray, truth, classes)
        draw_mask(grid[row, 2], gray, np.where(truth == IGNORED, IGNORED, prediction), classes)
        mark_wrong(grid[row, 2], truth, prediction)
    name_grid(grid, labels, ("image", "truth", "prediction (hatched: wrong)"))
    name_classes(figure, classes)
    main_title(figure, title)
    return figure


def draw_mask(axes: Axes, image: ArrayLike, mask: ArrayLike, classes: Sequence[str]) -> None:
    """The mask's colors over the image, which is gray beneath them, gray checks where it is ignored (255), and nothing
    where it is negative."""
    from matplotlib.colors import to_rgb

    numbers = np.asarray(mask).astype(np.int64)
    table = np.array([to_rgb(color) for color in class_colors(len(classes))])
    kinds = np.minimum(numbers, len(classes) - 1)
    layer = np.concatenate([table[kinds], _opacity(classes)[kinds][..., None]], -1)
    down, across = np.indices(numbers.shape)
    check = np.where((down + across) % 2, 0.85, 0.45)[..., None]
    layer = np.where((numbers == IGNORED)[..., None], np.concatenate([check] * 3 + [np.ones_like(check)], -1), layer)
    layer[numbers < 0] = 0
    # In its own colors the image would change those of the mask.
    show_image(axes, np.where(layer[..., 3] > 0, _gray(image), image))
    axes.imshow(layer, interpolation="nearest")


def _gray(image: ArrayLike) -> NDArray[np.uint8]:
    return np.asarray(np.asarray(image).mean(0, keepdims=True).round(), np.uint8)


def mark_wrong(axes: Axes, truth: ArrayLike, prediction: ArrayLike) -> None:
    """Hatch the pixels whose class is wrong, so that they show without color."""
    truths = np.asarray(truth)
    wrong = (truths != np.asarray(prediction)) & (truths != IGNORED)
    if wrong.any() and min(wrong.shape) > 1:
        # One direction in black, one in white, of which one is visible on any color; between them, the color is.
        for hatch, color in (("//", "black"), ("\\\\", "white")):
            drawn = axes.contourf(wrong, levels=[0.5, 1.5], colors="none", hatches=[hatch])
            drawn.set_edgecolor(color)
            drawn.set_linewidth(0.0)
        axes.contour(wrong, levels=[0.5], colors="white", linewidths=0.7)


def name_classes(figure: Figure, classes: Sequence[str]) -> None:
    """A legend under the picture with the colors of the classes, as far as there is room."""
    from matplotlib.patches import Patch

    colors, colored = seen_colors(len(classes)), covered(classes)
    patches = [
        Patch(facecolor=color, edgecolor=INK, label=shorten(name, 22))
        for name, color, one in zip(classes[:LEGEND], colors, colored, strict=False)
        if one
    ]
    if len(classes) > LEGEND:
        patches.append(Patch(facecolor="none", edgecolor="none", label=f"and {len(classes) - LEGEND} more"))
    legend(figure, handles=patches, loc="outside lower center", ncols=min(4, len(patches)))


def colored(
    image: ArrayLike, mask: ArrayLike, classes: Sequence[str], truth: ArrayLike | None = None
) -> NDArray[np.uint8]:
    """(H, W, 3) the image (C, H, W) uint8 in gray under the colors of its `mask` (H, W); gray where `mask` or `truth`
    is 255, black and white in turns where they differ."""
    from matplotlib.colors import to_rgb

    planes, numbers = np.asarray(image, np.float64), np.asarray(mask).astype(np.int64)
    table = 255 * np.array([to_rgb(color) for color in class_colors(len(classes))])
    kinds = np.minimum(numbers, len(classes) - 1)
    opacity = _opacity(classes)[kinds][..., None]
    found = (1 - opacity) * planes.mean(0)[..., None] + opacity * table[kinds]
    known = numbers != IGNORED
    if truth is not None:
        known &= np.asarray(truth) != IGNORED
        down, across = np.indices(numbers.shape)
        found[known & (numbers != np.asarray(truth))] = 0
        found[known & (numbers != np.asarray(truth)) & ((down + across) % 2 == 0)] = 255
    found[~known] = 128
    return np.asarray(found.round().clip(0, 255), np.uint8)
