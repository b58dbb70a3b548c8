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
    share_text,
    slice_lines,
    span_text,
    with_paths,
)
from striate.tasks.classify.decision import DecisionEffect
from striate.tasks.classify.metrics import decision_lines
from striate.tasks.metric import Metric
from striate.wording import several

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
    """One label: `n` samples have it, `predicted` ones reach its `threshold`; no value where there is nothing to divide
    by."""

    name: str
    n: int
    predicted: int
    threshold: float
    ap: Estimate
    precision: Estimate
    recall: Estimate
    f1: Estimate


@dataclass(frozen=True)
class SampleLabels:
    """One sample: its labels, those that are predicted, and the F1 of its set."""

    id: int
    path: str
    true: tuple[str, ...]
    predicted: tuple[str, ...]
    f1: float


@dataclass(frozen=True)
class MultilabelMetrics(SplitRecord):
    """Everything about one split.

    `figures`: `map`, `macro_f1`, `micro_f1`, `exact_match`. `together` and `predicted_together` (K, K): in how many
    samples two labels are both true, or both predicted, on the diagonal how many have the label; None of more than 50.
    `worst` begins with the sample of the lowest F1. `left_out`: what was not computed. `decision`: what thresholds that
    were given change beside those chosen on validation, the accuracy being the exact match; None without them.
    """

    n: int
    figures: Mapping[str, Estimate]
    labels: tuple[LabelMetrics, ...]
    together: tuple[tuple[int, ...], ...] | None
    predicted_together: tuple[tuple[int, ...], ...] | None
    worst: tuple[SampleLabels, ...]
    slices: tuple[Slice, ...]
    left_out: tuple[str, ...] = ()
    decision: DecisionEffect | None = None

    def lines(self, temperature: Temperature | None) -> list[list[str]]:
        """What given thresholds change, each label, slices, and the samples with the lowest F1."""
        del temperature
        rows, rest = list(self.labels), []
        if len(rows) > _LABELS:
            rest = [f"  … and {several(len(rows) - _LABELS, 'more label')} with higher average precision"]
            rows = sorted(rows, key=lambda row: 2.0 if row.ap.value is None else row.ap.value)[:_LABELS]
        head = f"  {'label':<18}{'n':>7} {'AP':>8}  {'95 % interval':<15} {'precision':>9} {'recall':>7} {'from':>6}"
        lines = [
            f"  {fit_text(row.name, 18)}{row.n:>7,} {share_text(row.ap, 1):>8}  {span_text(row.ap, 100, '.1f'):<15}"
            f" {share_text(row.precision, 1):>9} {share_text(row.recall, 1):>7} {row.threshold:>6.2f}"
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
            for line in with_paths(f"  {_set(one.predicted, 26):<26} {'is ' + _set(one.true, 23):<26} ", one.path)
        ]
        return ["  samples with the lowest F1", *lines] if lines else []


def _set(names: tuple[str, ...], width: int) -> str:
    return cut_text(one_line(", ".join(names)) or "nothing", width)
