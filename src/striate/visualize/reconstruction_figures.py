"""Images with their reconstructions by a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.visualize.canvas import SMALL, main_title, new_figure, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE, _GAP = 144, 6
_ROWS = ("image", "reconstruction", "difference")


def as_bytes(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Pixels from 0 to 1 as bytes; other values are clipped."""
    return np.asarray(np.clip(np.rint(np.asarray(pixels, np.float64) * 255), 0, 255), np.uint8)


def pair_picture(image: NDArray[np.uint8], reconstruction: ArrayLike) -> NDArray[np.uint8]:
    """(H, W, 3): the image (C, H, W) beside its reconstruction (C, H, W), pixels from 0 to 1; small ones enlarged by a
    whole number."""
    parts = [_planes(part) for part in (np.asarray(image), as_bytes(reconstruction))]
    scale = max(1, _SIDE // max(parts[0].shape[:2]))
    large = [part.repeat(scale, 0).repeat(scale, 1) for part in parts]
    gap = np.full((len(large[0]), _GAP, 3), 255, np.uint8)
    return np.concatenate([large[0], gap, large[1]], axis=1)


def _drawable(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image (C, H, W) with 1 or 3 channels; of other numbers of channels, the first one."""
    return image if len(image) in (1, 3) else image[:1]


def _planes(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    own = _drawable(image)
    shown = own if len(own) == 3 else own[[0, 0, 0]]
    return np.ascontiguousarray(np.moveaxis(shown, 0, -1))


def reconstructions_figure(
    images: ArrayLike, reconstructions: ArrayLike, *, title: str, labels: Sequence[str] = ()
) -> Figure:
    """A column a sample: image (N, C, H, W) uint8, reconstruction (N, C, H, W) from 0 to 1, and their absolute
    difference; `labels` above the images."""
    images = np.asarray(images)
    pixels: NDArray[Any] = np.asarray(reconstructions, np.float64)
    apart = as_bytes(np.abs(images / 255.0 - pixels))
    count, ratio = len(images), images.shape[2] / images.shape[3]
    figure = new_figure(max(3.0, 0.95 * count + 0.5), 3 * 0.95 * ratio + 0.8)
    grid = figure.subplots(3, count, squeeze=False)
    for row, shown in enumerate((images, as_bytes(pixels), apart)):
        for column, image in enumerate(shown):
            show_image(grid[row, column], _drawable(image))
        grid[row, 0].set_ylabel(_ROWS[row], fontsize=SMALL)
    for axes, label in zip(grid[0], labels, strict=False):
        axes.set_title(label, fontsize=SMALL)
    main_title(figure, title)
    return figure


def codes_figure(rows: Sequence[NDArray[np.uint8]], *, title: str) -> Figure:
    """Rows of images (K, C, H, W) uint8: decoded codes between those of two images at both ends."""
    count, ratio = len(rows[0]), rows[0].shape[2] / rows[0].shape[3]
    figure = new_figure(0.75 * count + 0.3, 0.75 * ratio * len(rows) + 0.6)
    grid = figure.subplots(len(rows), count, squeeze=False)
    for line, images in zip(grid, rows, strict=True):
        for axes, image in zip(line, images, strict=True):
            show_image(axes, _drawable(image))
    main_title(figure, title)
    return figure
