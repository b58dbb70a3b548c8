"""The report's answer as sentences, and how it writes numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from striate.evaluation.record import Evaluation
from striate.evaluation.text import LABELS as METRIC_LABELS
from striate.evaluation.text import SHARES, views_text

# The order of a table's columns.
_FIRST = {"n": "samples", "loss": "loss", "accuracy": "accuracy", "accuracy_interval": "95 % interval"}
LABELS = _FIRST | METRIC_LABELS


def number(value: Any) -> str:
    """A number for reading: integers grouped by thousands, others to four digits, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, (bool, str)):
        return str(value)
    if isinstance(value, (int, np.integer)):
        return f"{value:,}"
    value = float(value)
    return f"{value:,.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def percent(share: float | None) -> str:
    """A share from 0 to 1 in percent with one decimal, never parted from its sign, None as a dash."""
    return "–" if share is None else f"{100 * share:.1f}\u00a0%"


def metric(key: str, value: Any) -> str:
    """One entry of metrics.json for reading: shares in percent, intervals as a range."""
    if key == "accuracy_interval":
        return f"{percent(value[0])} to {percent(value[1])}"
    if key in SHARES:
        return percent(value)
    return f"{value:.3f}" if key in ("macro_f1", "r2") and value is not None else number(value)


def plain(value: object) -> str:
    """A value of env.json in words: its parts one after the other, without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(part)}" for name, part in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value)) or "none"
    return "none" if value is None else str(value)


def answer(evaluation: Evaluation) -> tuple[str, str]:
    """The result in one figure, and the sentence that says of what it is."""
    metrics = evaluation.metrics
    of = f"{evaluation.n:,} {evaluation.split} {_samples(evaluation)} of {evaluation.data}"
    if evaluation.task == "classify":
        low, high = metrics["accuracy_interval"]
        return percent(metrics["accuracy"]), (
            f"of the {of} were classified correctly (95 % interval {percent(low)} to {percent(high)}, Wilson)"
            f"{views_text(metrics)}. "
            f"Naming always the most frequent of the {len(evaluation.classes)} classes would reach "
            f"{percent(_most_frequent(evaluation))}."
        )
    if evaluation.task == "segment":
        return percent(metrics["iou"]), (
            f"mean intersection over union of the {len(evaluation.classes)} classes on the {of}; "
            f"{percent(metrics['pixel_accuracy'])} of the labeled pixels are right."
        )
    spread = float(np.asarray(evaluation.targets, dtype=np.float64).reshape(evaluation.n, -1).std(0).mean())
    return f"RMSE {number(metrics['rmse'])}", (
        f"root mean squared error on the {of}, in the units of the data "
        f"(mean absolute error {number(metrics['mae'])}, R² {metric('r2', metrics['r2'])}). "
        f"Answering always with their mean would have {number(spread)}."
    )


def _samples(evaluation: Evaluation) -> str:
    return "sample" if evaluation.n == 1 else "samples"


def _most_frequent(evaluation: Evaluation) -> float:
    return max(row.n for row in evaluation.per_class) / evaluation.n
