"""Images with the masks of single objects over them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.visualize.canvas import class_colors, main_title, name_grid, new_figure, show_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HUES, _ALPHA = 8, 0.35


def outlined(image: NDArray[np.uint8], numbers: NDArray[np.integer], wrong: Collection[int] = ()) -> NDArray[np.uint8]:
    """The image (C, H, W) with each object of `numbers` (H, W) tinted and outlined, in colors that alternate: (H, W,
    3). Those that are `wrong` have no tint, and an outline that is black and white in turns."""
    from matplotlib.colors import to_rgb

    pixels = np.repeat(image, 3, 0) if len(image) == 1 else image
    picture = pixels.transpose(1, 2, 0).astype(np.float64)
    colors = np.array([to_rgb(color) for color in class_colors(_HUES)]) * 255
    tints, bad = colors[numbers % _HUES], np.isin(numbers, list(wrong))
    there = numbers > 0
    picture = np.where((there & ~bad)[..., None], (1 - _ALPHA) * picture + _ALPHA * tints, picture)
    edge = there & _borders(numbers, max(1, round(max(numbers.shape) / 500)))
    down, across = np.indices(numbers.shape)
    check = np.where((down // 2 + across // 2) % 2, 255.0, 0.0)[..., None]
    picture = np.where(edge[..., None], np.where(bad[..., None], check, tints), picture)
    return np.asarray(picture.round().clip(0, 255), np.uint8)


def _borders(numbers: NDArray[np.integer], thick: int) -> NDArray[np.bool_]:
    """Pixels at most `thick` from a pixel of another object, along an axis."""
    found = np.zeros(numbers.shape, np.bool_)
    for step in range(1, thick + 1):
        for axis in (0, 1):
            low, high = np.s_[:-step], np.s_[step:]
            differs = np.diff(numbers, axis=axis) != 0 if step == 1 else numbers[low] != numbers[high]
            if step > 1 and axis == 1:
                differs = numbers[:, low] != numbers[:, high]
            for part in (low, high):
                found[part if axis == 0 else (slice(None), part)] |= differs
    return found


def instances_figure(
    rows: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]], *, title: str, labels: Sequence[str] = ()
) -> Figure:
    """A row a sample: the image (C, H, W), and the image (H, W, 3) with its objects, and with the predictions."""
    height, width = np.asarray(rows[0][1]).shape[:2]
    figure = new_figure(7.2, 2.4 * len(rows) * height / width + 0.8)
    grid = figure.subplots(len(rows), 3, squeeze=False)
    for axes, (image, truth, predicted) in zip(grid, rows, strict=True):
        show_image(axes[0], image)
        for place, picture in ((1, truth), (2, predicted)):
            show_image(axes[place], np.asarray(picture).transpose(2, 0, 1))
    name_grid(grid, labels, ("image", "objects (checkered: missed)", "predictions (checkered: wrong)"))
    main_title(figure, title)
    return figure
