"""The metrics of a detection: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from striate.statistics.calibration import Temperature
from striate.statistics.estimate import Estimate
from striate.tasks.assessment import (
    Slice,
    SplitRecord,
    cut_text,
    fit_text,
    slice_lines,
    span_text,
    with_paths,
)
from striate.tasks.metric import Metric
from striate.wording import formatted, percent, several

MAP = Metric("map", "mAP", "share")
METRICS = (
    MAP,
    Metric("map50", "mAP at IoU 0.5", "share"),
    Metric("map75", "mAP at IoU 0.75", "share", brief=False),
    Metric("precision", "precision", "share", brief=False),
    Metric("recall", "recall", "share", brief=False),
    Metric("threshold", "threshold", brief=False),
    Metric("angle_error", "median angle error", "degrees", higher_is_better=False),
    Metric("angle_objects", "objects with an angle"),
)
AVERAGES = {"map": "mAP", "map50": "mAP at IoU 0.5", "map75": "mAP at IoU 0.75"}
AVERAGES |= {f"mask_{name}": f"mask {label}" for name, label in AVERAGES.items()}
_CLASSES, _IMAGES = 20, 5
_MANY = 3


@dataclass(frozen=True)
class ClassDetections:
    """The detections of one class. `hits`, `wrong` and `missed` are counted at the threshold of the predictions."""

    name: str
    """Name of the class."""
    objects: int
    """Number of its objects."""
    images: int
    """Number of images that have such an object."""
    ap: Estimate
    """Average precision over all IoUs; without a value where the class has no objects."""
    ap50: Estimate
    """Average precision at an IoU of 0.5; without a value where the class has no objects."""
    hits: int
    """Number of objects that are detected."""
    wrong: int
    """Number of wrong detections."""
    missed: int
    """Number of objects that are not detected."""


@dataclass(frozen=True)
class ImageDetections:
    """The detections of one image at the threshold."""

    id: int
    """Id of the sample."""
    path: str
    """Its path."""
    hits: int
    """Number of objects that are detected."""
    wrong: int
    """Number of wrong detections."""
    missed: int
    """Number of objects that are not detected."""

    @property
    def f1(self) -> float:
        """2 hits / (2 hits + wrong + missed); 1 where there are neither objects nor detections."""
        whole = 2 * self.hits + self.wrong + self.missed
        return 2 * self.hits / whole if whole else 1.0


@dataclass(frozen=True)
class DetectionMetrics(SplitRecord):
    """Everything about one split of a detection."""

    n: int
    """Number of images."""
    metrics: Mapping[str, Estimate]
    """`map`, `map50` and `map75` (`mask_map`, … for masks), with bootstrap intervals over images."""
    threshold: float
    """The score from which a detection is a prediction."""
    classes: tuple[ClassDetections, ...]
    """A row for each class."""
    mistakes: Mapping[str, Mapping[str, float | None]]
    """By kind of mistake: how many there are at the threshold, and by how much mAP at IoU 0.5 would rise without them;
    None where no object would be left."""
    worst: tuple[ImageDetections, ...]
    """Images, beginning with the lowest F1."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""

    @property
    def half_labeled(self) -> tuple[str, ...]:
        """The worst images that may be partly labeled: more objects are found without a label than with one. None where
        the network finds at most half of all objects: its other detections are no evidence then."""
        if sum(row.hits for row in self.classes) <= sum(row.missed for row in self.classes):
            return ()
        return tuple(one.path for one in self.worst if one.wrong >= _MANY and one.wrong > one.hits + one.missed)

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """Each class, the kinds of mistakes, slices, and the images with the lowest F1."""
        del temperature
        averages = [
            f"  {AVERAGES[name]:<24}{percent(figure.value):>10}   {span_text(figure, 100, '.2f')}"
            for name, figure in self.metrics.items()
        ]
        return [
            [f"  {'over all classes':<24}{'':>10}   95 % interval (bootstrap)", *averages],
            self._class_lines(),
            self._mistake_lines(),
            slice_lines(self.slices, MAP),
            self._worst_lines(),
        ]

    def _class_lines(self) -> list[str]:
        rows, rest = list(self.classes), []
        if len(rows) > _CLASSES:
            rest = [f"  … and {several(len(rows) - _CLASSES, 'more class', 'more classes')} with higher AP"]
            rows = sorted(rows, key=lambda row: 2.0 if row.ap.value is None else row.ap.value)[:_CLASSES]
        head = f"  {'class':<16} {'objects':>7} {'AP':>8} {'AP50':>8}  {'95 % interval':<17} {'wrong':>6} {'missed':>6}"
        lines = [
            f"  {fit_text(row.name, 16)} {row.objects:>7,} {percent(row.ap.value):>8} {percent(row.ap50.value):>8}"
            f"  {span_text(row.ap50, 100, '.1f'):<17} {row.wrong:>6,} {row.missed:>6,}"
            for row in rows
        ]
        return [head, *lines, *rest]

    def _mistake_lines(self) -> list[str]:
        if not self.mistakes:
            return []
        head = f"  {'mistakes at a score of ' + format(self.threshold, '.2f'):<38}{'':>7}  mAP50 without them"
        return [
            head,
            *(
                f"  {cut_text(KINDS[kind], 38):<38}{found['count']:>7,.0f}  {_gain_text(found['gain'])}"
                for kind, found in self.mistakes.items()
            ),
        ]

    def _worst_lines(self) -> list[str]:
        lines = [
            line
            for one in self.worst[:_IMAGES]
            if one.f1 < 1
            for line in with_paths(f"  {one.hits:>4,} {one.wrong:>6,} {one.missed:>7,} ", one.path)
        ]
        head = ["  hits  wrong  missed  images with the lowest F1"] if lines else []
        few = several(len(self.half_labeled), "image")
        half = [f"  {few} with more wrong detections than objects: labels may be missing"] if self.half_labeled else []
        return [*head, *lines, *half]


def _gain_text(gain: float | None) -> str:
    return "–: no object found" if gain is None else f"{formatted(100 * gain, '+.2f')} points"


KINDS = {
    "class": "another class (IoU ≥ 0.5)",
    "localization": "badly localized (IoU 0.1 to 0.5)",
    "both": "badly localized, another class",
    "duplicate": "duplicate",
    "background": "background (IoU < 0.1)",
    "missed": "missed objects",
}
