"""Writes the report: one HTML file with everything inside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from striate.evaluation.assessment.record import ClassificationFigures
from striate.records import Finding
from striate.report import numbers, wording
from striate.report.assessed import assessment_sections, averages_table, class_table, confused_table, figures_of_test
from striate.report.content import ReportContent, Table
from striate.report.page import as_base64, page_environment
from striate.report.wording import plain
from striate.runs.files import write_text
from striate.visualize.canvas import of_split

_KINDS = ("curves", "confusion", "scatter", "samples", "baselines", "signal", "filters")


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
    evaluation, assessed = content.evaluation, _assessed(content)
    page = page_environment().get_template("report.html")
    return page.render(
        content=content,
        answer=None if evaluation is None else wording.answer(evaluation),
        pictures={kind: [p for p in content.pictures if p.kind == kind] for kind in _KINDS},
        image=as_base64,
        metrics=numbers.metric_table(content.metrics),
        gap=content.assessment.gap if content.assessment else None,
        **assessed,
        behind=_behind(content),
        noticed=_noticed(content.findings),
        sections=() if content.assessment is None else assessment_sections(content.assessment),
        environment={name: plain(value) for name, value in content.environment.items()},
    )


def _assessed(content: ReportContent) -> dict[str, Table | None]:
    """What is known of classes: with the record of evaluation.json more than without."""
    evaluation = content.evaluation
    if evaluation is None or not evaluation.per_class:
        return {"averages": None, "confused": None, "classes": None}
    figures = None if content.assessment is None else figures_of_test(content.assessment)
    if not isinstance(figures, ClassificationFigures):
        return {"averages": None, "confused": None, "classes": numbers.class_table(evaluation)}
    of = of_split(evaluation.data, evaluation.split, evaluation.n)
    return {
        "averages": averages_table(figures, of),
        "confused": confused_table(figures, of),
        "classes": class_table(figures, of),
    }


def _noticed(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Grave ones first; what is found in data apart from what is found in the network and its training."""
    ordered = sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity))
    of_data = [finding for finding in ordered if finding.code.startswith("data.")]
    return {"data": of_data, "training": [finding for finding in ordered if finding not in of_data]}


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
