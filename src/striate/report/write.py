"""Writes the report: one HTML file with everything inside."""

from __future__ import annotations

from pathlib import Path

from striate.report import numbers, wording
from striate.report.content import ReportContent, Table
from striate.report.page import as_base64, page_environment
from striate.runs.files import write_text

_KINDS = ("curves", "confusion", "scatter", "samples", "baselines", "signal")


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Write `content` as one HTML file that needs nothing else: no network, no script, no other file.

    An older report is replaced at once, never half. Raises RunError where a picture cannot be read or the
    file cannot be written.
    """
    path = Path(path)
    write_text(path, render_report(content))
    return path


def render_report(content: ReportContent) -> str:
    """The report as HTML text. Raises RunError where a picture cannot be read."""
    evaluation = content.evaluation
    page = page_environment().get_template("report.html")
    return page.render(
        content=content,
        answer=None if evaluation is None else wording.answer(evaluation),
        pictures={kind: [p for p in content.pictures if p.kind == kind] for kind in _KINDS},
        image=as_base64,
        metrics=numbers.metric_table(content.metrics),
        classes=numbers.class_table(evaluation) if evaluation and evaluation.per_class else None,
        behind=_behind(content),
    )


def _behind(content: ReportContent) -> dict[str, Table | None]:
    """The table that belongs to each kind of picture."""
    evaluation = content.evaluation
    tables: dict[str, Table | None] = dict.fromkeys(_KINDS)
    if content.history:
        tables["curves"] = numbers.history_table(content.history)
    tables["signal"] = content.signal
    if evaluation is not None and evaluation.confusion is not None:
        tables["confusion"] = numbers.confusion_table(evaluation)
    if evaluation is not None and evaluation.task == "regress":
        tables["scatter"] = numbers.answer_table(evaluation, content.target_names)
    return tables
