"""The evaluation of a network on one split of a data set: a plain record, without torch, and its text for a
terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len, set_cell_size

from striate import notebook
from striate.errors import one_line
from striate.inference.plan import InferencePlan
from striate.records import Finding, Interval
from striate.statistics.calibration import Temperature
from striate.statistics.estimate import plain
from striate.statistics.intervals import METHOD
from striate.tasks.assessment import SplitMetrics, gap_lines
from striate.tasks.metric import Metric, shown_metrics
from striate.wording import filled, number, percent, several

SHOWN = 20
"""Largest number of classes that are listed; of more, those with the lowest recall."""
PAIRS = 3
_NAME_WIDTH = 26
_SHARES_OF_SAMPLES = frozenset(("accuracy", "exact_match", "recall@1", "recall@5"))
"""Metrics whose interval is Wilson's, or over groups where samples have some; others have one by bootstrap."""


@dataclass(frozen=True)
class ClassRow:
    """One class of a classification. A quotient of 0 by 0 is None: it is unknown, not zero."""

    name: str
    """Name of the class."""
    n: int
    """Number of samples that truly belong to it."""
    precision: float | None
    """0 to 1; None where the class is never predicted."""
    recall: float | None
    """0 to 1; None where the class has no samples."""
    f1: float | None
    """0 to 1; None where both of these are None."""
    recall_interval: Interval
    """95 % interval of the recall."""

    def to_json(self) -> dict[str, Any]:
        """The row as plain values, the interval as `[low, high]`."""
        row = asdict(self)
        row["recall_interval"] = [self.recall_interval.low, self.recall_interval.high]
        return row


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The predictions of a network for one split, and how good they are. All arrays are in the order of the split."""

    data: str
    """Name of the data set."""
    split: str
    """Name of the split."""
    task: str
    """Name of the task."""
    classes: tuple[str, ...]
    """Names of the classes; empty where there are none."""
    n: int
    """Number of samples."""
    metrics: dict[str, Any]
    """Under the keys of metrics.json: `n`, `loss` and the metrics of the task."""
    decoded: Any
    """Predictions as the task decodes them: class probabilities (N, K) float32, numbers (N, T) float32, masks (N, H, W)
    uint8, …"""
    targets: Any
    """(N, …) targets of the samples."""
    ids: NDArray[np.int64]
    """(N,) ids of the samples."""
    confusion: NDArray[np.int64] | None = None
    """(K, K) confusion matrix, a row a true class, a column a predicted one; None where samples do not have one class
    each."""
    per_class: tuple[ClassRow, ...] = ()
    """A row for each class; empty where samples do not have one class each."""
    notes: tuple[str, ...] = ()
    """How the data were read, in sentences."""
    findings: tuple[Finding, ...] = ()
    """What is wrong with the data, such as files that could not be read."""
    inference: InferencePlan = field(default_factory=InferencePlan)
    """How the predictions were computed."""
    brightness: NDArray[np.float32] | None = None
    """(N,) mean of each image's bytes, 0 to 255; None where inputs are not images."""
    figures: SplitMetrics | None = None
    """The assessment of this split; None where it was not requested."""
    temperature: Temperature | None = None
    """The temperature of the run's evaluation.json, fitted on its validation split; None where there is none."""
    gap: Mapping[str, Any] | None = None
    """The gap between training and validation in the run's evaluation.json; None where there is none."""
    shown: tuple[Metric, ...] = ()
    """The metrics of the task that tables show."""
    sampled: Any = None
    """What the task remembers besides `decoded` (`Task.remembered`); None for saved predictions."""
    inputs: str = ""
    """Shape of the inputs in words; may be empty."""
    predicted: NDArray[np.int64] | None = None
    """(N,) numbers of the predicted classes; None where samples do not have one class each."""
    classes_here: int | None = None
    """Number of classes of the split, where they are not those of the training; else None."""
    counted: str = ""
    """What the title counts instead of classes: `3 labels`. Empty for classes."""
    groups: tuple[str, ...] = ()
    """The group of each sample: intervals and tests draw whole groups. Empty where samples have none."""

    @property
    def of(self) -> str:
        """`360 test samples of digits`."""
        return f"{self.n:,} {self.split} {'sample' if self.n == 1 else 'samples'} of {self.data}"

    def span_of(self, key: str, text: Callable[[float], str] = percent) -> str:
        """The interval of a metric in parentheses, after a space; empty where it has none."""
        ends = self.metrics.get(f"{key}_interval")
        return "" if ends is None else f" (95 % interval {' to '.join(map(text, ends))}, {self.interval_method(key)})"

    def interval_method(self, key: str) -> str:
        """How the interval of a metric was computed, in a few words."""
        usual = "over groups" if any(self.groups) else METHOD
        usual = usual if key in _SHARES_OF_SAMPLES else "bootstrap"
        return str(self.metrics.get(f"{key}_interval_method", usual))

    def to_json(self) -> dict[str, Any]:
        """The evaluation as one JSON object of plain values, without the predictions."""
        document = {"data": self.data, "split": self.split, "task": self.task, **self.metrics}
        if self.inputs:
            document["inputs"] = self.inputs
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
        parts = [notebook.line(summary_line(self.metrics, self.shown))]
        if self.per_class:
            columns = ("class", "n", "precision", "recall", "95 % interval", "F1")
            parts.append(notebook.table(columns, map(_notebook_row, self.per_class)))
        if self.gap:
            parts.append(notebook.line(self.gap.get("sentence", "")))
        return notebook.page(
            f"{self.data}, {self.split} split",
            *parts,
            notebook.items(self.notes),
            *(finding._repr_html_() for finding in self.findings),
        )

    def __str__(self) -> str:
        """The data, the number of samples, the metrics with their intervals, classes and findings, in 80 columns."""
        title = f"{one_line(self.data)}, {one_line(self.split)} split: {several(self.n, 'sample')}"
        if self.counted:
            title += f", {self.counted}"
        elif self.classes:
            count = len(self.classes) if self.classes_here is None else self.classes_here
            title += f", {several(count, 'class', 'classes')}"
        if self.inputs:
            title += f"; {self.inputs}"
        lines = [*filled(title, 80).split("\n"), *_metric_lines(self)]
        if self.per_class:
            lines += ["", *_class_lines(self), *_pair_lines(self)]
        if self.figures is not None:
            parts = [*self.figures.lines(self.temperature), gap_lines(self.gap), _left_out_lines(self.figures)]
            lines += [line for part in parts if part for line in ("", *part)]
        for finding in self.findings:
            lines += ["", *filled(one_line(str(finding)), 80).split("\n")]
        return "\n".join(line.rstrip() for line in lines)


def _left_out_lines(figures: SplitMetrics) -> list[str]:
    return [f"  {line}" for sentence in figures.left_out for line in filled(sentence, 78).split("\n")]


def _metric_lines(evaluation: Evaluation) -> list[str]:
    lines = []
    metrics = evaluation.metrics
    every = shown_metrics(evaluation.shown) if evaluation.shown else _from_keys(metrics)
    told = [one for one in every if one.key in metrics and one.tells(len(evaluation.classes))]
    wide = max([15, *(len(one.name) for one in told)])
    for metric in told:
        value = metrics[metric.key]
        if value is None:  # undefined, such as R² of one sample
            lines.append(f"  {metric.name:<{wide}}{'–':>9}")
            continue
        shown = f"{percent(value, 2):>10}" if metric.is_share else f"{number(value):>9}{metric.lead[1]}"
        line = f"  {metric.name:<{wide}}{shown}"
        if (interval := metrics.get(f"{metric.key}_interval")) is not None:
            method = evaluation.interval_method(metric.key)
            ends = f" 95 % interval {_range(metric, interval, ' % to ')} ({method})"
            beside = "  " if len(line) + len(ends) + 2 <= 80 else f"\n{'':<{wide + 4}}"
            line += (f"\n    {metric.interval_of}:" if metric.interval_of else beside) + ends
        lines += line.split("\n")
        if f"{metric.key}_one_view" in metrics and "views" in metrics:
            lines.append(f"  {'':<{wide}}{'':>9} with test-time augmentation, {metrics['views']} images each")
    if named := only_predicted_class(evaluation):
        lines.append(f"  It predicts {one_line(named)} for every sample.")
    return lines


def _range(metric: Metric, interval: Any, between: str) -> str:
    low, high = interval
    return f"{100 * low:.2f}{between}{percent(high, 2)}" if metric.is_share else f"{number(low)} to {number(high)}"


def _from_keys(metrics: Mapping[str, Any]) -> tuple[Metric, ...]:
    """Metrics made from keys, where the task lists none."""
    return tuple(Metric(key) for key, value in metrics.items() if key != "n" and isinstance(value, float))


def views_text(metrics: Mapping[str, Any], headline: Metric) -> str:
    """` with test-time augmentation, 6 images each (without: 93.10 %)`; empty where there is none."""
    if "views" not in metrics:
        return ""
    alone = headline.text(metrics[f"{headline.key}_one_view"])
    return f" with test-time augmentation, {metrics['views']} images each (without: {alone})"


def summary_line(metrics: Mapping[str, Any], shown: tuple[Metric, ...]) -> str:
    """The metrics of one split, with the keys of metrics.json, on one line: `accuracy 97.80 % (95 % …), n = 1,000`."""
    parts = []
    for metric in shown_metrics(shown) if shown else _from_keys(metrics):
        if metric.key not in metrics or not metric.brief:
            continue
        part = f"{metric.name} {metric.text(metrics[metric.key])}"
        if (interval := metrics.get(f"{metric.key}_interval")) is not None:
            part += f" (95 % interval {_range(metric, interval, '–')})"
        if f"{metric.key}_one_view" in metrics:
            part += views_text(metrics, metric)
        parts.append(part)
    return ", ".join([*parts, f"n = {count_text(metrics)}"])


def count_text(metrics: Mapping[str, Any]) -> str:
    """The number of measured samples of a split, with the number of all where that is larger: `1,408 of 3,500`."""
    return f"{metrics['n']:,}" + (f" of {metrics['of']:,}" if "of" in metrics else "")


def only_predicted_class(evaluation: Evaluation) -> str | None:
    """The class that is predicted everywhere, though there are several; None where predictions differ."""
    if evaluation.confusion is None or (evaluation.confusion.sum(1) > 0).sum() < 2:
        return None
    predicted = np.flatnonzero(evaluation.confusion.sum(0))
    return evaluation.classes[predicted[0]] if len(predicted) == 1 else None


def _class_lines(evaluation: Evaluation) -> list[str]:
    rows, rest = list(evaluation.per_class), ""
    if len(rows) > SHOWN:
        rest = f"  … and {several(len(rows) - SHOWN, 'more class', 'more classes')} with higher recall"
        rows = sorted(rows, key=lambda row: 2.0 if row.recall is None else row.recall)[:SHOWN]
    width = min(_NAME_WIDTH, max(5, *(cell_len(one_line(row.name)) for row in rows)))
    head = f"  {'class':<{width}} {'n':>9}  precision  recall  95 % interval     F1"
    lines = [head, *(_class_line(row, width) for row in rows)]
    return [*lines, rest] if rest else lines


def _class_line(row: ClassRow, width: int) -> str:
    low, high = row.recall_interval.low, row.recall_interval.high
    interval = "–" if row.recall is None else f"{low:.3f} – {high:.3f}"
    return (
        f"  {_fit(one_line(row.name), width)} {row.n:>9,}  {_number(row.precision):>9}"
        f"  {_number(row.recall):>6}  {interval:>13}  {_number(row.f1):>5}"
    )


def _pair_lines(evaluation: Evaluation) -> list[str]:
    """The most frequent mistakes."""
    assert evaluation.confusion is not None
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    lines = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        count = int(wrong[true, predicted])
        if count:
            names = (_fit(one_line(evaluation.classes[k]), 24).rstrip() for k in (true, predicted))
            lines.append("  {:>7,} × {} predicted as {}".format(count, *names))
    return ["", "  most frequent mistakes", *lines] if lines else ["", "  no mistakes"]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _fit(text: str, width: int) -> str:
    """The text, padded or cut with an ellipsis to exactly `width` cells of a terminal."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def _notebook_row(row: ClassRow) -> tuple[notebook.Cell, ...]:
    interval = None if row.recall is None else f"{row.recall_interval.low:.3f} to {row.recall_interval.high:.3f}"
    return (row.name, row.n, *(_rounded(row.precision), _rounded(row.recall), interval, _rounded(row.f1)))


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
