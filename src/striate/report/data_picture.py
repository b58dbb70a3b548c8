"""Draw a data set as a network will see it, from a configuration to a PNG."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.augment.augment import check_augmentation, describe_augmentation
from striate.data.config import AugmentConfig
from striate.data.dataset import Dataset
from striate.data.targets import Targets
from striate.records import Finding
from striate.tasks.registry import make_task
from striate.tasks.task import Task
from striate.training.config import Config
from striate.training.prepare import read_data
from striate.training.recipes.augmentation import decide_augmentation
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.sample_figures import (
    MOST_CLASSES,
    SampleRow,
    refuse_undrawable,
    rows_by_class,
    rows_by_epoch,
    samples_figure,
)
from striate.wording import several, show_shape

_ACROSS = 4  # images with texts in a row
_EPOCHS = 6


@dataclass(frozen=True)
class DataPicture:
    """A picture of images of the training split, and what was decided about the data."""

    path: Path
    """The file."""
    data: str
    """The data by name."""
    samples: int
    """Number of images that are drawn."""
    words: str
    """The caption of the picture."""
    augment: AugmentConfig | None
    """The augmentation that was decided, where it was to be shown; else None."""
    notes: tuple[str, ...]
    """Of the data, a sentence each."""
    findings: tuple[Finding, ...]
    """Of the data."""


def draw_data(
    config: Config,
    out: Path,
    *,
    augmented: bool,
    count: int = 8,
    announce: Callable[[str], None] | None = None,
) -> DataPicture:
    """Draw samples of the training split: `count` of each class, or, `augmented`, `count` in all, each without
    augmentation and as in the first epochs of a training with `config.seed`.

    Raises DataError for data that are not images, ConfigError for an augmentation that does not apply to them.
    """
    config, data = read_data(config, announce)
    refuse_undrawable(data)
    task, augment = make_task(data, config.task), None
    paint = None if data.has_masks or not task.draws else partial(_painted, task)
    if augmented:
        check_augmentation(config.augment, data)
        augment, reason = decide_augmentation(
            config.augment, data, survives_moves=task.survives_moves, adapt=task.augmentation
        )
        rows = rows_by_epoch(
            data, augment, count=count, epochs=_EPOCHS, seed=config.seed, paint=paint, move=task.warp_targets
        )
        words = _augmentation_words(augment, reason, data, config.seed)
    else:
        rows = rows_by_class(data, count=count, seed=config.seed, paint=paint)
        words = _class_words(data, rows)
        if paint is not None:
            rows = [replace(row, images=part) for row in rows for part in _parts(row.images)]
    figure = samples_figure(
        rows,
        title=of_split(data.name, "train", len(data.splits["train"])),
        words=words,
        columns=["original", *(f"epoch {k + 1}" for k in range(_EPOCHS))] if augmented else [],
        classes=data.classes if data.has_masks else [],
        large=paint is not None,
    )
    samples = len(rows) if augmented else sum(len(row.images) for row in rows)
    return DataPicture(save_figure(figure, out), data.name, samples, words, augment, data.notes, data.findings)


def _parts(images: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [images[start : start + _ACROSS] for start in range(0, len(images), _ACROSS)]


def _painted(task: Task, images: torch.Tensor, targets: Targets) -> torch.Tensor:
    """Images (B, C, H, W) with their targets drawn over them: (B, 3, H, W)."""
    pairs = zip(images.numpy(), targets.numpy(), strict=True)
    return torch.from_numpy(np.stack([task.draw(image, target).transpose(2, 0, 1) for image, target in pairs]))


def _augmentation_words(augment: AugmentConfig, reason: str, data: Dataset, seed: int) -> str:
    """The augmentation, why the rest is off, and what the picture leaves out."""
    what = ", ".join(describe_augmentation(augment, data.input_shape, frames=data.medium.folders)) or "none"
    why = reason.partition("; ")[2]  # before it, the recipe lists what it chose
    text = f"Augmentation: {what}" + (f"; {why}" if why else "") + "."
    if augment.mixup or augment.cutmix:
        text += " Mixup and CutMix mix pairs of a batch; this is not drawn here."
    if augment.transform:
        text += f" The transform {augment.transform} is not drawn here."
    if data.has_masks:
        text += " Checkered: pixels that moved in from outside the image and do not count."
    return f"{text} Each epoch is drawn as a training with seed {seed} sees it."


def _class_words(data: Dataset, rows: list[SampleRow]) -> str:
    shape = show_shape(data.input_shape[1:])
    text = f"Inputs of {shape} pixels, {'color' if data.input_shape[0] == 3 else 'gray'}."
    if not data.medium.shows_itself:
        text = f"Inputs: {data.inputs_in_words}."
        text += f" {data.medium.axes(data.preparation)}" if data.medium.pictures else ""
    if data.has_one_class_each and len(data.classes) > MOST_CLASSES:
        text += f" The first {len(rows)} of {several(len(data.classes), 'class', 'classes')}."
    return text
