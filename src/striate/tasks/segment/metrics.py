"""The metrics of a segmentation: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from striate.statistics.calibration import Calibration, Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import (
    Slice,
    SplitRecord,
    calibration_lines,
    fit_text,
    slice_lines,
    span_text,
    with_paths,
)
from striate.tasks.metric import Metric
from striate.wording import percent, several

IOU = Metric("iou", "mean IoU", "share")
METRICS = (
    IOU,
    Metric("dice", "mean Dice", "share", brief=False),
    Metric("boundary_f1", "boundary F1", "share", brief=False),
    Metric("pixel_accuracy", "pixel accuracy", "share"),
)


_CLASSES, _IMAGES = 20, 5


@dataclass(frozen=True)
class ClassPixels:
    """The pixels of one class. `iou` and `dice` have no value where the class does not occur in targets."""

    name: str
    """Name of the class."""
    images: int
    """Number of images whose target has it."""
    share: float
    """Share of all labeled pixels that are of it."""
    iou: Estimate
    """Intersection over union."""
    dice: Estimate
    """Dice coefficient."""


@dataclass(frozen=True)
class ImageIou:
    """One image and the mean IoU of its classes."""

    id: int
    path: str
    iou: float


@dataclass(frozen=True)
class SegmentationMetrics(SplitRecord):
    """Everything about one split of a segmentation."""

    n: int
    """Number of images."""
    metrics: Mapping[str, Estimate]
    """`iou`, `dice`, `boundary_f1` (means over the classes that occur) and `pixel_accuracy`, over all labeled pixels,
    with bootstrap intervals over images."""
    classes: tuple[ClassPixels, ...]
    """A row for each class."""
    worst: tuple[ImageIou, ...]
    """Images, beginning with the lowest IoU."""
    pixels: int
    """Number of labeled pixels, a fixed random sample, that the calibration is computed from."""
    calibration: Calibration | None
    """Calibration of the probabilities; None where they were not saved."""
    calibrated: Calibration | None
    """The same with the temperature that was fitted on validation; None without one."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """Each class, slices, the images with the lowest IoU, and calibration."""
        averages = [
            f"  {m.name:<24}{percent(self.metrics[m.key].value, 2):>10}   {span_text(self.metrics[m.key], 100, '.2f')}"
            for m in METRICS
        ]
        calibration: list[str] = []
        if self.calibration is not None:
            calibration = calibration_lines(self.calibration, self.calibrated, temperature)
            calibration.append(f"    of {self.pixels:,} pixels; pixels of one image are correlated: chance gives more")
        return [
            [f"  {'over all labeled pixels':<24}{'':>10}   95 % interval (bootstrap)", *averages],
            self._class_lines(),
            slice_lines(self.slices, IOU),
            self._worst_lines(),
            calibration,
        ]

    def _class_lines(self) -> list[str]:
        rows, rest = list(self.classes), []
        if len(rows) > _CLASSES:
            rest = [f"  … and {several(len(rows) - _CLASSES, 'more class', 'more classes')} with higher IoU"]
            rows = sorted(rows, key=lambda row: 2.0 if row.iou.value is None else row.iou.value)[:_CLASSES]
        head = f"  {'class':<20} {'images':>7} {'of pixels':>10} {'IoU':>9}  {'95 % interval':<17} {'Dice':>8}"
        lines = [
            f"  {fit_text(row.name, 20)} {row.images:>7,} {percent(row.share, 2):>10} {percent(row.iou.value, 2):>9}"
            f"  {span_text(row.iou, 100, '.2f'):<17} {percent(row.dice.value, 2):>8}"
            for row in rows
        ]
        return [head, *lines, *rest]

    def _worst_lines(self) -> list[str]:
        lines = [line for one in self.worst[:_IMAGES] for line in with_paths(f"  {percent(one.iou, 2):>8} ", one.path)]
        return ["  images with the lowest IoU", *lines] if lines else []
