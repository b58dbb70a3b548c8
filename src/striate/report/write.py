"""Writes the report: one HTML file with everything inside."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from striate.errors import RunError
from striate.report import numbers, wording
from striate.report.content import Picture, ReportContent, Table
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
    environment = Environment(
        loader=PackageLoader("striate.report", "templates"),
        # Everything is escaped: names of classes and files come from strangers.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": wording.number, "percent": wording.percent}
    evaluation = content.evaluation
    return environment.get_template("report.html").render(
        content=content,
        answer=None if evaluation is None else wording.answer(evaluation),
        pictures={kind: [p for p in content.pictures if p.kind == kind] for kind in _KINDS},
        image=_as_base64,
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


def _as_base64(picture: Picture) -> str:
    try:
        return b64encode(picture.path.read_bytes()).decode("ascii")
    except OSError as error:
        raise RunError(
            str(picture.path), error.strerror or str(error), "a PNG picture", "write the report again"
        ) from error
