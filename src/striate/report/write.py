"""Write the report: one HTML file without external files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from striate.doctor.run_curves import TOO_SHORT
from striate.records import SEVERITIES, Finding
from striate.report import numbers
from striate.report.content import ReportContent
from striate.report.numbers import plain
from striate.report.page import as_base64, page_environment
from striate.runs.files import write_text
from striate.visualize.page_parts import Table

_FIRST = (TOO_SHORT, "fit.one-class", "fit.plateau")
"""Findings at the top of the report, without which its metrics would mislead."""
_KINDS = ("curves", "confusion", "scatter", "samples", "baselines", "signal", "filters")


def write_report(path: str | Path, content: ReportContent) -> Path:
    """Write `content` as one HTML file, which needs no network, no script and no other file.

    An older report is replaced atomically. Raises RunError where a picture cannot be read, or the file cannot be
    written.
    """
    path = Path(path)
    write_text(path, render_report(content))
    return path


def render_report(content: ReportContent) -> str:
    """The report as HTML text. Raises RunError where a picture cannot be read."""
    page = page_environment().get_template("report.html")
    return page.render(
        content=content,
        answer=content.answer,
        pictures={kind: [p for p in content.pictures if p.kind == kind] for kind in _KINDS},
        image=as_base64,
        metrics=numbers.metric_table(content.metrics, len(content.evaluation.classes) if content.evaluation else 0),
        gap=content.assessment.gap if content.assessment else None,
        **{name: content.tables.get(name) for name in ("averages", "confused", "classes")},
        behind=_behind(content),
        noticed=_noticed(content.findings),
        sections=content.sections,
        environment={name: plain(value) for name, value in content.environment.items()},
    )


def _noticed(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """The findings by place on the page, the gravest first: those for the top, those on data, and the others."""
    ordered = sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
    first = [finding for finding in ordered if finding.code in _FIRST]
    of_data = [finding for finding in ordered if finding.code.startswith("data.")]
    rest = [finding for finding in ordered if finding not in first and finding not in of_data]
    return {"first": first, "data": of_data, "training": rest}


def _behind(content: ReportContent) -> dict[str, Table | None]:
    """The table of numbers behind each kind of picture."""
    tables: dict[str, Table | None] = dict.fromkeys(_KINDS)
    if content.history:
        tables["curves"] = numbers.history_table(content.history)
    return tables | {"signal": content.signal} | {kind: content.tables.get(kind) for kind in ("confusion", "scatter")}
