"""An evaluation as text for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.cells import cell_len, set_cell_size

from striate.errors import one_line
from striate.evaluation.assessment.text import assessment_lines

if TYPE_CHECKING:
    from striate.evaluation.record import ClassRow, Evaluation

SHOWN = 20
"""So many classes are listed; of more, those with the lowest recall."""
PAIRS = 3
_NAME_WIDTH = 26
LABELS = {
    "accuracy": "accuracy",
    "accuracy_one_view": "one view",
    "top5": "top 5",
    "macro_f1": "macro F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "iou": "mean IoU",
    "pixel_accuracy": "pixel accuracy",
    "loss": "loss",
    "hidden_sparsity": "silent units",
}
SHARES = ("accuracy", "accuracy_one_view", "top5", "iou", "pixel_accuracy", "hidden_sparsity")


def metric_text(key: str, mean: float | None, std: float | None = None) -> str:
    """`96.40 ± 2.90 %`, or `3.412 ± 0.51`; without a deviation the mean alone, and a dash where there is none."""
    if mean is None:
        return "–"
    if key in SHARES:
        return f"{100 * mean:.2f} %" if std is None else f"{100 * mean:.2f} ± {100 * std:.2f} %"
    return f"{mean:.4g}" if std is None else f"{mean:.4g} ± {std:.2g}"


def lead_unit(key: str) -> tuple[float, str]:
    """By what a difference of a metric is multiplied to be read, and its unit: shares differ by points."""
    return (100, " points") if key in SHARES else (1, "")


def render(evaluation: Evaluation) -> str:
    """Of which data, how many samples, the metrics with their interval, and the classes."""
    title = f"{one_line(evaluation.data)}, {one_line(evaluation.split)} split: {evaluation.n:,} samples"
    if evaluation.task != "regress":
        title += f", {len(evaluation.classes)} classes"
    lines = [_fit(title, 80), *_metric_lines(evaluation)]
    if evaluation.per_class:
        lines += ["", *_class_lines(evaluation), *_pair_lines(evaluation)]
    if evaluation.figures is not None:
        lines += assessment_lines(evaluation.figures, evaluation.temperature, evaluation.gap)
    return "\n".join(line.rstrip() for line in lines)


def _metric_lines(evaluation: Evaluation) -> list[str]:
    lines = []
    for key, label in LABELS.items():
        if key not in evaluation.metrics:
            continue
        value = evaluation.metrics[key]
        if value is None:  # such as R² of one sample
            lines.append(f"  {label:<15}{'–':>9}")
            continue
        shown = f"{100 * value:8.2f} %" if key in SHARES else f"{value:9.4g}"
        line = f"  {label:<15}{shown}"
        if key == "top5" and len(evaluation.classes) <= 5:
            line += f" always, with {len(evaluation.classes)} classes"
        if key == "accuracy" and "accuracy_interval" in evaluation.metrics:
            low, high = evaluation.metrics["accuracy_interval"]
            line += f"   95 % interval {100 * low:.2f} % to {100 * high:.2f} % (Wilson)"
        lines.append(line)
        if key == "accuracy" and "views" in evaluation.metrics:
            lines.append(f"  {'':<15}{'':>9} with {evaluation.metrics['views']} views per image")
    return lines


def views_text(metrics: Mapping[str, Any]) -> str:
    """` with 6 views per image (one view: 93.10 %)`; empty where there is one view."""
    if "views" not in metrics:
        return ""
    alone = metric_text("accuracy", metrics["accuracy_one_view"])
    return f" with {metrics['views']} views per image (one view: {alone})"


def _class_lines(evaluation: Evaluation) -> list[str]:
    rows, rest = list(evaluation.per_class), ""
    if len(rows) > SHOWN:
        rest = f"  … and {len(rows) - SHOWN} more classes with higher recall"
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
    """Which mistakes are the most frequent."""
    assert evaluation.confusion is not None
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS]
    lines = []
    for true, predicted in zip(*np.unravel_index(order, wrong.shape), strict=True):
        count = int(wrong[true, predicted])
        if count:
            names = (_fit(one_line(evaluation.classes[k]), 24).rstrip() for k in (true, predicted))
            lines.append("  {:>7,} × {} taken for {}".format(count, *names))
    return ["", "  most frequent mistakes", *lines] if lines else ["", "  no mistakes"]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _fit(text: str, width: int) -> str:
    """Exactly `width` terminal cells where shorter or longer; cut with an ellipsis."""
    return set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"


def summary_line(metrics: Mapping[str, Any]) -> str:
    """The metrics of one split, with the keys of metrics.json, on one line: `accuracy 97.80 % (95 % …), n = 1,000`."""
    parts = []
    for key, label in LABELS.items():
        if key in metrics and key not in ("accuracy_one_view", "top5", "macro_f1"):
            value = metrics[key]
            parts.append(f"{label} {metric_text(key, value)}")
            if key == "accuracy":
                low, high = metrics["accuracy_interval"]
                parts[-1] += f" (95 % interval {100 * low:.2f}–{100 * high:.2f} %)"
                parts[-1] += views_text(metrics)
    return ", ".join([*parts, f"n = {metrics['n']:,}"])
