"""An evaluation in a notebook."""

from __future__ import annotations

from striate import notebook
from striate.evaluation.record import ClassRow, Evaluation
from striate.evaluation.text import summary_line


def notebook_evaluation(evaluation: Evaluation) -> str:
    """The metrics, a row a class, the gap, notes and findings as HTML."""
    parts = [notebook.line(summary_line(evaluation.metrics))]
    if evaluation.per_class:
        columns = ("class", "n", "precision", "recall", "95 % interval", "F1")
        parts.append(notebook.table(columns, map(_row, evaluation.per_class)))
    if evaluation.gap:
        parts.append(notebook.line(evaluation.gap.get("sentence", "")))
    return notebook.page(
        f"{evaluation.data}, {evaluation.split} split",
        *parts,
        notebook.items(evaluation.notes),
        *(finding._repr_html_() for finding in evaluation.findings),
    )


def _row(row: ClassRow) -> tuple[notebook.Cell, ...]:
    interval = None if row.recall is None else f"{row.recall_interval.low:.3f} to {row.recall_interval.high:.3f}"
    return (row.name, row.n, *(_rounded(row.precision), _rounded(row.recall), interval, _rounded(row.f1)))


def _rounded(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"
