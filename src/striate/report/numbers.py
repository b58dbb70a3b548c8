"""The numbers behind each picture, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.evaluation.record import Evaluation
from striate.report.content import Table
from striate.report.wording import LABELS, metric, percent
from striate.runs.environment import read_environment
from striate.visualize.canvas import shorten

MATRIX = 20
"""Up to so many classes the whole confusion matrix is a table; of more classes, its mistakes are listed."""
ROWS = 200
"""So many rows at most in a table of mistakes or answers; the caption says how many there are in all."""


def metric_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row a split, a column a metric."""
    keys = [key for key in LABELS if any(key in values for values in metrics.values())]
    rows = tuple(
        (split, *(metric(key, values[key]) if key in values else "–" for key in keys))
        for split, values in metrics.items()
    )
    return Table("How good it is on each split", ("split", *(LABELS[key] for key in keys)), rows)


def history_table(history: Sequence[Mapping[str, float | None]]) -> Table:
    """A row an epoch, the columns of metrics.csv."""
    keys = tuple(dict.fromkeys(key for row in history for key in row))
    return Table("Each epoch", keys, tuple(tuple(row.get(key) for key in keys) for row in history))


def class_table(evaluation: Evaluation) -> Table:
    """A row a class."""
    columns = ("class", "n", "precision", "recall", "95 % interval of the recall", "F1")
    rows = []
    for row in evaluation.per_class:
        interval = metric("accuracy_interval", (row.recall_interval.low, row.recall_interval.high))
        shown = "–" if row.recall is None else interval
        rows.append((row.name, row.n, percent(row.precision), percent(row.recall), shown, percent(row.f1)))
    return Table(f"Each class, {_of(evaluation)}", columns, tuple(rows))


def confusion_table(evaluation: Evaluation) -> Table:
    """The matrix for few classes, the mistakes by frequency for many."""
    assert evaluation.confusion is not None
    if len(evaluation.classes) <= MATRIX:
        rows = tuple(
            (name, *counts) for name, counts in zip(evaluation.classes, evaluation.confusion.tolist(), strict=True)
        )
        caption = f"Rows: true class; columns: predicted class; {_of(evaluation)}"
        # The rows have the names in full; above narrow columns of counts they would push each other out.
        columns = ("true", *(shorten(name, 24) for name in evaluation.classes))
        return Table(caption, columns, rows, shades(evaluation.confusion))
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    pairs = np.argwhere(wrong)
    pairs = pairs[np.argsort(-wrong[tuple(pairs.T)], kind="stable")]
    names = evaluation.classes
    listed = tuple((names[true], names[said], int(wrong[true, said])) for true, said in pairs[:ROWS])
    caption = f"The {len(listed):,} most frequent of {len(pairs):,} kinds of mistakes, {_of(evaluation)}"
    return Table(caption, ("true class", "predicted class", "count"), listed)


def shades(counts: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """From 0 for none to 10 for all of a row."""
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return tuple(tuple(row) for row in np.ceil(10 * shares).astype(int).tolist())


def answer_table(evaluation: Evaluation, target_names: Sequence[str] = ()) -> Table:
    """True and predicted numbers of the first samples."""
    truth, said = (a.reshape(evaluation.n, -1)[:ROWS] for a in (evaluation.targets, evaluation.decoded))
    names = tuple(target_names) or tuple(f"target {k + 1}" for k in range(truth.shape[1]))
    columns = ("sample", *(f"{name}, {what}" for name in names for what in ("true", "predicted")))
    rows: list[tuple[str | float, ...]] = []
    for sample, true_row, said_row in zip(evaluation.ids, truth, said, strict=False):
        pairs = (float(f"{v:.6g}") for pair in zip(true_row, said_row, strict=True) for v in pair)
        rows.append((str(sample), *pairs))
    caption = f"{'The first ' if evaluation.n > ROWS else ''}{len(rows):,} answers, {_of(evaluation)}"
    return Table(caption, columns, tuple(rows))


def environment_table(path: Path) -> Table:
    """What env.json says of machine and versions."""
    rows = tuple((key, str(value)) for key, value in read_environment(path).items())
    return Table("Where it ran", ("what", "value"), rows)


def _of(evaluation: Evaluation) -> str:
    return f"{evaluation.split} split of {evaluation.data}, n = {evaluation.n:,}"
