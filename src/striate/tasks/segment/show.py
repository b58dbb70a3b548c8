"""A segmentation in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.masks import IGNORED
from striate.data.drawn_inputs import DrawnInputs
from striate.data.media.volume.slices_picture import across, fullest, middle_slices
from striate.statistics.calibration import Temperature
from striate.tasks.evaluation import Evaluation
from striate.tasks.segment.metrics import METRICS, SegmentationMetrics
from striate.tasks.show import Images, Row, calibration_section, overall_table, ranked_pictures, share_cells, split_text
from striate.visualize.mask_figures import masks_figure
from striate.visualize.page_parts import Picture, Section, Table
from striate.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def mask_pictures(
    folder: Path, evaluation: Evaluation, images: Images, each: NDArray[np.float64], names: Sequence[str]
) -> tuple[Picture, ...]:
    """`masks.png` with random samples, then samples with the lowest IoU, around its median, and with the highest;
    `each` (N,) is the IoU of each image."""

    def draw(chosen: NDArray[np.int64], title: str) -> Figure:
        labels = [f"IoU {percent(float(each[k]))}" for k in chosen]
        return masks_figure(*_drawn(images, evaluation, chosen), evaluation.classes, title=title, labels=labels)

    choices = ("images with the lowest IoU: look here for wrong masks", "images around the median IoU",
            "images with the highest IoU")  # fmt: skip
    return ranked_pictures(
        folder, evaluation, np.argsort(each, kind="stable"), draw, choices=choices, names=names, at_random="masks.png",
        note=". Hatched: wrong. Gray checks: not labeled.", shown=3, drawn=5,
    )  # fmt: skip


def _drawn(
    images: Images, evaluation: Evaluation, chosen: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Images (K, C, H, W), targets and predictions (K, H, W); for volumes, the slices with most pixels of the
    classes."""
    truths, predictions = evaluation.targets[chosen], evaluation.decoded[chosen]
    if truths.ndim == 3 or not isinstance(images, DrawnInputs):
        return np.asarray(images[chosen]), truths, predictions
    raw = images.inputs[chosen.copy()].numpy()
    at = [fullest(truth) for truth in truths]
    return (
        np.stack([middle_slices(one, place).transpose(2, 0, 1) for one, place in zip(raw, at, strict=True)]),
        np.stack([across(one, place, IGNORED) for one, place in zip(truths, at, strict=True)]),
        np.stack([across(one, place) for one, place in zip(predictions, at, strict=True)]),
    )


def tables(evaluation: Evaluation, figures: SegmentationMetrics) -> dict[str, Table | None]:
    """Tables over all labeled pixels, and of each class."""
    of = split_text(evaluation)
    columns = ("class", "images", "of labeled pixels", "IoU", "95 % interval", "Dice", "95 % interval")
    rows: tuple[Row, ...] = tuple(
        (row.name, row.images, percent(row.share), *share_cells(row.iou), *share_cells(row.dice))
        for row in figures.classes
    )
    return {
        "averages": overall_table(METRICS, figures, of, "labeled pixels"),
        "classes": Table(f"Each class, {of}", columns, rows),
    }


def calibration_sections(figures: SegmentationMetrics, temperature: Temperature | None, of: str) -> tuple[Section, ...]:
    """How far to trust the probabilities of pixels; empty where none were stored."""
    if figures.calibration is None:
        return ()
    pixels = f"{figures.pixels:,} labeled pixels of the {of}"
    dependent = "Pixels of one image are correlated, so chance gives more miscalibration than these intervals say."
    return (calibration_section(figures.calibration, figures.calibrated, temperature, pixels, (dependent,)),)
