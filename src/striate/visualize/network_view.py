"""Samples of the training split as a network gets them, and how augmentation varies them from epoch to epoch."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.annotations.masks import IGNORED
from striate.data.augment.augment import augment_batch
from striate.data.augment.pixels import with_noise
from striate.data.config import AugmentConfig
from striate.data.counter_random import hash_key, uniforms
from striate.data.dataset import Dataset, Split
from striate.data.normalize import measure_normalization
from striate.errors import DataError
from striate.visualize.samples import SampleRow
from striate.wording import show_shape

MOST_CLASSES = 20
"""So many classes have a row; a picture of more would be unreadable."""
_ACROSS = 8  # samples in a row
_CHOICE = 7  # what the random numbers are for


def refuse_unseen(data: Dataset) -> None:
    """Raise DataError where the data are no images of one or three channels."""
    if data.medium.pictures and data.input_shape[0] in (1, 3):
        return
    what = data.medium.many if data.medium.pictures else data.medium.a
    raise DataError(
        f"data {data.source}",
        f"{what} of shape {show_shape(data.input_shape)}",
        "images with one or three channels: this draws a picture of them",
        "striate data show mnist5k",
    )


def rows_by_class(data: Dataset, *, count: int, seed: int) -> list[SampleRow]:
    """`count` samples of each of the first MOST_CLASSES classes, a row a class; without classes, `count` in all, in
    rows of eight. Which ones, follows from `seed`."""
    train = data.splits["train"]
    ranked = _ranked(train, seed)
    if not data.has_one_class_each:
        chosen = [ranked[i : i + _ACROSS] for i in range(0, min(count, len(ranked)), _ACROSS)]
        chosen[-1] = chosen[-1][: (count - 1) % _ACROSS + 1] if count < len(ranked) else chosen[-1]
        return [_row("", data, train, rows, captions=True) for rows in chosen]
    targets = train.targets.cpu().numpy()
    of_class = [ranked[targets[ranked] == k][:count] for k in range(min(len(data.classes), MOST_CLASSES))]
    return [_row(name, data, train, rows) for name, rows in zip(data.classes, of_class, strict=False) if len(rows)]


def rows_by_epoch(data: Dataset, augment: AugmentConfig, *, count: int, epochs: int, seed: int) -> list[SampleRow]:
    """`count` samples, the classes in turn: each as it is, then as a training with `seed` sees it in its first epochs.

    `augment` must be decided. Noise is drawn in the units of the image; pairs that training mixes are not.
    """
    train = data.splits["train"]
    chosen = _in_turn(data, train, count, seed)
    inputs, targets, ids = train.inputs[chosen].cpu(), train.targets[chosen].cpu(), train.ids[chosen].cpu()
    images, masks = [inputs], [targets]
    for epoch in range(epochs):
        moved, warp = augment_batch(inputs, augment, seed, epoch, ids)
        images.append(_with_visible_noise(moved, train, augment, seed, epoch, ids))
        if data.has_masks:
            unmoved = targets[:, None]
            masks.append((unmoved if warp is None else warp.apply(unmoved, nearest=True, fill=IGNORED))[:, 0])
    shown = np.stack([image.numpy() for image in images], axis=1)
    layers = np.stack([mask.numpy() for mask in masks], axis=1) if data.has_masks else None
    return [
        SampleRow(data.target_text(targets[k]), shown[k], None if layers is None else layers[k])
        for k in range(len(chosen))
    ]


def _with_visible_noise(
    images: torch.Tensor, train: Split, augment: AugmentConfig, seed: int, epoch: int, ids: torch.Tensor
) -> torch.Tensor:
    """Bytes with the noise that their standardized form gets, back in bytes; the same where there is none."""
    if not augment.noise:
        return images
    normalization = measure_normalization(train)
    noisy = with_noise(normalization.on("cpu", 4)(images), augment, seed, epoch, ids)
    mean, std = (torch.tensor(v).float().view(1, -1, 1, 1) for v in (normalization.mean, normalization.std))
    return (noisy * std + mean).round().clamp(0, 255).to(torch.uint8)


def _ranked(split: Split, seed: int) -> np.ndarray:
    """The rows of the split in an order that follows from the seed."""
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


def _row(name: str, data: Dataset, split: Split, rows: np.ndarray, captions: bool = False) -> SampleRow:
    targets = split.targets[rows].cpu()
    masks = targets.numpy() if data.has_masks else None
    names = tuple(data.target_text(target) for target in targets) if captions else ()
    return SampleRow(name, split.inputs[rows].cpu().numpy(), masks, names)
