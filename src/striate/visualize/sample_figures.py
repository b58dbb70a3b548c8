"""Rows of images with names and captions: training samples, original and augmented."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from striate.data.annotations.masks import IGNORED
from striate.data.augment.augment import augment_batch
from striate.data.augment.pixels import with_noise
from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key, uniforms
from striate.data.dataset import Dataset, Split
from striate.data.drawn_inputs import drawn_inputs
from striate.data.media.volume.slices_picture import across
from striate.data.normalize import measure_normalization
from striate.errors import DataError
from striate.visualize.canvas import FAINT, INK, SMALL, main_title, new_figure, shorten, show_image
from striate.visualize.mask_figures import draw_mask, name_classes
from striate.wording import show_shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 18
_SIDE = 1.2  # inches for the longer side of an image
_LEAST = 5.5  # inches, enough for title and words


@dataclass(frozen=True)
class SampleRow:
    """One row of a figure of samples."""

    name: str
    """Stands in front of the row."""
    images: NDArray
    """(K, C, H, W) uint8."""
    masks: NDArray | None = None
    """(K, H, W) class numbers, 255 = ignored, −1 = no pixel of a mask, drawn over the images; None without
    masks."""
    captions: tuple[str, ...] = ()
    """Stand over the images; empty without captions."""


def samples_figure(
    rows: Sequence[SampleRow],
    *,
    title: str,
    words: str = "",
    columns: Sequence[str] = (),
    classes: Sequence[str] = (),
    large: bool = False,
) -> Figure:
    """The rows one under the other, with `columns` as headings and `words` below; `classes` of the masks, if any.
    `large`: images have texts in them."""
    side = _SIDE * (2 if large else 1)
    across = max(len(row.images) for row in rows)
    height, width = rows[0].images.shape[-2:]
    tall, wide = side * height / max(height, width), side * width / max(height, width)
    # An image may be a thousand times as wide as high.
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

        # Two texts below the images would overlap, so the words are the legend's title.
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
        _draw(axes, image, None if row.masks is None else row.masks[k], classes)
        if row.captions:
            axes.set_xlabel(shorten(row.captions[k], _LETTERS), fontsize=SMALL, color=INK, parse_math=False)
    if row.name:
        name = shorten(row.name, _LETTERS)
        grid[0].set_ylabel(
            name, rotation=0, ha="right", va="center", fontsize=SMALL, color=INK, labelpad=6, parse_math=False
        )


def _draw(axes: Axes, image: ArrayLike, mask: ArrayLike | None, classes: Sequence[str]) -> None:
    if mask is None:
        show_image(axes, image)
    else:
        draw_mask(axes, image, mask, classes)
    axes.spines[:].set(color=FAINT, linewidth=0.5)


MOST_CLASSES = 20
"""Largest number of classes with a row; a picture of more would be unreadable."""
_ACROSS = 8  # samples in a row
_CHOICE = 7  # what the random numbers are for


def refuse_undrawable(data: Dataset) -> None:
    """Raise DataError for data that are neither images of one or three channels nor drawn as such."""
    if data.medium.shows_itself and data.input_shape[0] in (1, 3):
        return
    if drawn_inputs(data.splits["train"].inputs, data.preparation) is not None:
        return
    what = data.medium.many if data.medium.pictures else data.medium.a
    raise DataError(
        f"data {data.source}",
        f"{what} of shape {show_shape(data.input_shape)}",
        "images with one or three channels, which can be drawn",
        "striate data show mnist5k",
    )


def _as_pictures(images: torch.Tensor, data: Dataset) -> torch.Tensor:
    """Inputs (B, …) as pictures (B, C, H, W)."""
    drawn = drawn_inputs(images, data.preparation)
    return images if drawn is None else torch.from_numpy(drawn[np.arange(len(images))])


Paint = Callable[[torch.Tensor, Any], torch.Tensor]
"""Draws the targets that are positions, such as boxes, over images (B, C, H, W) uint8."""


def rows_by_class(data: Dataset, *, count: int, seed: int, paint: Paint | None = None) -> list[SampleRow]:
    """`count` samples of each of the first MOST_CLASSES classes, a row a class; without classes, `count` in all, in
    rows of eight. They are chosen by `seed`."""
    train = data.splits["train"]
    ranked = _ranked(train, seed)
    if not data.has_one_class_each:
        chosen = [ranked[i : i + _ACROSS] for i in range(0, min(count, len(ranked)), _ACROSS)]
        chosen[-1] = chosen[-1][: (count - 1) % _ACROSS + 1] if count < len(ranked) else chosen[-1]
        return [_row("", data, train, rows, captions=True, paint=paint) for rows in chosen]
    targets = train.targets.cpu().numpy()
    of_class = [ranked[targets[ranked] == k][:count] for k in range(min(len(data.classes), MOST_CLASSES))]
    return [_row(name, data, train, rows) for name, rows in zip(data.classes, of_class, strict=False) if len(rows)]


def rows_by_epoch(
    data: Dataset,
    augment: AugmentConfig,
    *,
    count: int,
    epochs: int,
    seed: int,
    paint: Paint | None = None,
    move: Callable[[Any, Any], Any] = lambda targets, _: targets,
) -> list[SampleRow]:
    """`count` samples, the classes in turn: each original, then as a training with `seed` sees it in its first epochs.

    `paint` draws targets over the images, after `move` has moved them with their images. `augment` must be decided.
    Noise is drawn in the units of the image; mixing of pairs is not drawn.
    """
    train = data.splits["train"]
    chosen = _in_turn(data, train, count, seed)
    inputs, targets, ids = train.inputs[chosen].cpu(), train.targets[chosen].cpu(), train.ids[chosen].cpu()
    images, masks = [_as_pictures(inputs, data) if paint is None else paint(inputs, targets)], [targets]
    for epoch in range(epochs):
        known = targets if data.has_masks else None
        moved, warp = augment_batch(inputs, augment, seed, epoch, ids, motion=data.medium.motion, masks=known)
        varied = _with_visible_noise(moved, train, augment, seed, epoch, ids)
        at = targets if warp is None else move(targets, warp)
        images.append(_as_pictures(varied, data) if paint is None else paint(varied, at))
        if data.has_masks:
            unmoved = targets[:, None]
            masks.append((unmoved if warp is None else warp.apply(unmoved, nearest=True, fill=IGNORED))[:, 0])
    shown = np.stack([image.numpy() for image in images], axis=1)
    layers = np.stack([_layers(mask) for mask in masks], axis=1) if data.has_masks else None
    return [
        SampleRow(data.target_text(targets[k]), shown[k], None if layers is None else layers[k])
        for k in range(len(chosen))
    ]


def _layers(masks: torch.Tensor) -> np.ndarray:
    """(K, H, W) class numbers; of volumes, those of the drawn slices, and −1 between them."""
    found: np.ndarray = masks.numpy()
    return found if found.ndim == 3 else np.stack([across(one.astype(np.int16), fill=-1) for one in found])


def _with_visible_noise(
    images: torch.Tensor, train: Split, augment: AugmentConfig, seed: int, epoch: int, ids: torch.Tensor
) -> torch.Tensor:
    """Images as bytes with the noise that training adds to their standardized values; unchanged without noise."""
    if not augment.noise or images.dtype != torch.uint8:
        return images
    normalization = measure_normalization(train)
    noisy = with_noise(normalization.on("cpu", images.ndim)(images), augment, seed, epoch, ids)
    mean, std = (
        torch.tensor(v).float().view(1, -1, *(1,) * (images.ndim - 2)) for v in (normalization.mean, normalization.std)
    )
    return (noisy * std + mean).round().clamp(0, 255).to(torch.uint8)


def _ranked(split: Split, seed: int) -> np.ndarray:
    """The rows of the split in a random order by the seed."""
    order: np.ndarray = np.argsort(uniforms(hash_key(seed, _CHOICE), split.ids.cpu().numpy(), 1)[:, 0], kind="stable")
    return order


def _in_turn(data: Dataset, split: Split, count: int, seed: int) -> np.ndarray:
    """`count` rows of the split: one of each class, then a second of each, and so on; rows of a class together."""
    ranked = _ranked(split, seed)
    if not data.has_one_class_each:
        return ranked[:count]
    classes = split.targets.cpu().numpy()[ranked]
    turn = np.zeros(len(ranked), dtype=np.int64)
    for k in np.unique(classes):
        turn[classes == k] = np.arange((classes == k).sum())
    chosen = np.lexsort((classes, turn))[:count]
    by_class: np.ndarray = ranked[chosen[np.lexsort((turn[chosen], classes[chosen]))]]
    return by_class


def _row(
    name: str, data: Dataset, split: Split, rows: np.ndarray, captions: bool = False, paint: Paint | None = None
) -> SampleRow:
    targets, images = split.targets[rows].cpu(), split.inputs[rows].cpu()
    masks = _layers(targets) if data.has_masks else None
    names = tuple(data.target_text(target) for target in targets) if captions else ()
    shown = _as_pictures(images, data) if paint is None else paint(images, targets)
    return SampleRow(name, shown.numpy(), masks, names)
