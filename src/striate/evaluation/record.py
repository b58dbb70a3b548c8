"""How good a network is on one split of one data set: a plain record, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.evaluation.assessment.record import Figures, Temperature, plain
from striate.inference.plan import InferencePlan
from striate.records import Finding, Interval


@dataclass(frozen=True)
class ClassRow:
    """One class of a classification.

    `n` samples truly belong to it. `precision` is None where the class was never predicted, `recall` where it
    has no samples, `f1` where both hold: a quotient over nothing is unknown, not zero.
    """

    name: str
    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    recall_interval: Interval

    def to_json(self) -> dict[str, Any]:
        """The row as plain values, the interval as `[low, high]`."""
        row = asdict(self)
        row["recall_interval"] = [self.recall_interval.low, self.recall_interval.high]
        return row


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a network answered on one split, and how good that is.

    `data` names the data set, `split` its part, `task` is `classify`, `regress` or `segment`. `metrics` has
    the keys of metrics.json: `n`, `loss` and, by task, `accuracy top5 macro_f1 accuracy_interval`,
    `rmse mae r2`, `iou pixel_accuracy`. `decoded`: class probabilities (N, K) float32, numbers (N, T) float32,
    or masks (N, H, W) uint8; `targets` and `ids` (N,) are those of the split, in the same order.
    Classification alone has `confusion` (K, K) int64, a row a true class, a column a predicted one, and
    `per_class`. `notes` and `findings` say how the data were read, and what of them could not be; `inference` how the
    answers were computed. `brightness` (N,) float32: the mean of each image's bytes, 0 to 255; None where inputs are no
    images. `figures`: everything that follows from the answers (`striate.evaluation.assessment`); `temperature` and
    `gap`, those of evaluation.json of the run, come from its validation split. None where nobody asked.
    """

    data: str
    split: str
    task: str
    classes: tuple[str, ...]
    n: int
    metrics: dict[str, Any]
    decoded: NDArray[Any]
    targets: NDArray[Any]
    ids: NDArray[np.int64]
    confusion: NDArray[np.int64] | None = None
    per_class: tuple[ClassRow, ...] = ()
    notes: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    inference: InferencePlan = field(default_factory=InferencePlan)
    brightness: NDArray[np.float32] | None = None
    figures: Figures | None = None
    temperature: Temperature | None = None
    gap: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The evaluation as one JSON object of plain values, without the single answers."""
        document = {"data": self.data, "split": self.split, "task": self.task, **self.metrics}
        document["classes"] = list(self.classes)
        if self.confusion is not None:
            document["confusion"] = self.confusion.tolist()
            document["per_class"] = [row.to_json() for row in self.per_class]
        if self.figures is not None:
            document["temperature"] = plain(self.temperature)
            document["gap"] = plain(self.gap)
            document["assessment"] = self.figures.to_json()
        document["inference"] = self.inference.to_json()
        document["notes"] = list(self.notes)
        document["findings"] = [finding.to_json() for finding in self.findings]
        return document

    def _repr_html_(self) -> str:
        from striate.evaluation.notebook import notebook_evaluation

        return notebook_evaluation(self)

    def __str__(self) -> str:
        from striate.evaluation.text import render

        return render(self)
