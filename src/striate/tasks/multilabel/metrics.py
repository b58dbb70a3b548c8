"""The metrics of sets of labels: keys, records of evaluation.json, lines in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from striate.errors import one_line
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
from striate.tasks.classify.decision import DecisionEffect
from striate.tasks.classify.metrics import decision_lines
from striate.tasks.metric import Metric
from striate.wording import percent, several

MAP = Metric("map", "mAP", "share")
METRICS = (
    MAP,
    Metric("micro_f1", "micro F1", "share"),
    Metric("macro_f1", "macro F1", "share", brief=False),
    Metric("exact_match", "exact match", "share", brief=False),
)
_LABELS, _SAMPLES = 20, 5


@dataclass(frozen=True)
class LabelMetrics:
    """One label. An estimate has no value where its denominator is 0."""

    name: str
    """Name of the label."""
    n: int
    """Number of samples that have it."""
    predicted: int
    """Number of samples whose probability reaches the threshold."""
    threshold: float
    """The probability from which it is predicted."""
    ap: Estimate
    """Average precision."""
    precision: Estimate
    """Share of the predicted samples that have it."""
    recall: Estimate
    """Share of its samples that it is predicted for."""
    f1: Estimate
    """Their harmonic mean."""


@dataclass(frozen=True)
class SampleLabels:
    """The labels of one sample."""

    id: int
    """Id of the sample."""
    path: str
    """Its path."""
    true: tuple[str, ...]
    """Its true labels."""
    predicted: tuple[str, ...]
    """The predicted labels."""
    f1: float
    """F1 of the set."""


@dataclass(frozen=True)
class MultilabelMetrics(SplitRecord):
    """Everything about one split of sets of labels."""

    n: int
    """Number of samples."""
    metrics: Mapping[str, Estimate]
    """`map`, `macro_f1`, `micro_f1`, `exact_match`."""
    labels: tuple[LabelMetrics, ...]
    """A row for each label."""
    together: tuple[tuple[int, ...], ...] | None
    """(K, K) number of samples that have both labels; on the diagonal, that have the label. None for more than 50
    labels."""
    predicted_together: tuple[tuple[int, ...], ...] | None
    """The same for the predicted labels."""
    worst: tuple[SampleLabels, ...]
    """Samples, beginning with the lowest F1."""
    slices: tuple[Slice, ...]
    """Parts of the data."""
    left_out: tuple[str, ...] = ()
    """What was not computed, a sentence each."""
    decision: DecisionEffect | None = None
    """What thresholds of the user change, compared with those chosen on validation; its accuracy is the exact match.
    None without such thresholds."""

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """The effect of the user's thresholds, each label, slices, and the samples with the lowest F1."""
        del temperature
        rows, rest = list(self.labels), []
        if len(rows) > _LABELS:
            rest = [f"  … and {several(len(rows) - _LABELS, 'more label')} with higher average precision"]
            rows = sorted(rows, key=lambda row: 2.0 if row.ap.value is None else row.ap.value)[:_LABELS]
        head = f"  {'label':<18}{'n':>7} {'AP':>8}  {'95 % interval':<15} {'precision':>9} {'recall':>7} {'from':>6}"
        lines = [
            f"  {fit_text(row.name, 18)}{row.n:>7,} {percent(row.ap.value):>8}  {span_text(row.ap, 100, '.1f'):<15}"
            f" {percent(row.precision.value):>9} {percent(row.recall.value):>7} {row.threshold:>6.2f}"
            for row in rows
        ]
        than = "the predictions with thresholds chosen on validation"
        given = decision_lines(self.decision, than, ("chosen on validation", "as given"), "exact match")
        return [given, [head, *lines, *rest], slice_lines(self.slices, MAP), self._worst_lines()]

    def _worst_lines(self) -> list[str]:
        lines = [
            line
            for one in self.worst[:_SAMPLES]
            if one.f1 < 1
            for line in with_paths(f"  {_set(one.predicted, 26):<26} {'true: ' + _set(one.true, 22):<28} ", one.path)
        ]
        return ["  samples with the lowest F1", *lines] if lines else []


def _set(names: tuple[str, ...], width: int) -> str:
    return cut_text(one_line(", ".join(names)) or "no label", width)
