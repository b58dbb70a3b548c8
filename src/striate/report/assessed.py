"""What evaluation.json says, as parts of the report."""

from __future__ import annotations

from collections.abc import Sequence

from striate.evaluation.assessment.record import (
    Assessment,
    Calibration,
    ClassificationFigures,
    Estimate,
    Figures,
    RegressionFigures,
    Slice,
    Temperature,
)
from striate.report.content import Section, Table
from striate.report.wording import number, percent

Row = tuple[str | int | float | None, ...]
ROWS = 200
"""So many rows at most in a table of parts of the data."""


def figures_of_test(assessment: Assessment) -> Figures | None:
    """Those of the test split, which the report is about."""
    return assessment.splits.get("test")


def class_table(figures: ClassificationFigures, of: str) -> Table:
    """A row a class, each figure with its 95 % interval."""
    ranked = any(row.auc is not None for row in figures.classes)
    heads = ("precision", "recall", "F1", *(("ROC AUC", "average precision") if ranked else ()))
    columns = ("class", "n", *(part for head in heads for part in (head, "95 % interval")))
    rows: list[Row] = []
    for row in figures.classes:
        shown = [row.precision, row.recall, row.f1]
        if ranked:
            shown += [row.auc or Estimate(None), row.average_precision or Estimate(None)]
        rows.append((row.name, row.n, *(cell for figure in shown for cell in _share(figure))))
    return Table(f"Each class, {of}", columns, tuple(rows))


def confused_table(figures: ClassificationFigures, of: str) -> Table | None:
    """The most confused pairs; None where there is no mistake."""
    rows = tuple((pair.true, pair.predicted, pair.n, *_share(pair.share)) for pair in figures.confused)
    columns = ("true class", "taken for", "samples", "of the true class", "95 % interval")
    return Table(f"Most confused pairs, {of}", columns, rows) if rows else None


def averages_table(figures: ClassificationFigures, of: str) -> Table:
    """Everything over all classes."""
    rows = tuple((name.replace("_", " "), *_share(figure)) for name, figure in figures.figures.items())
    return Table(f"Over all classes, {of}", ("figure", "value", "95 % interval"), rows)


def assessment_sections(assessment: Assessment) -> tuple[Section, ...]:
    """Calibration, or answers of a regression, then parts of the data; nothing without a test split."""
    figures = figures_of_test(assessment)
    if figures is None:
        return ()
    of = f"test split of {assessment.data}, n = {figures.n:,}"
    if isinstance(figures, RegressionFigures):
        parts = [_numbers(figures, of)]
    else:
        parts = [_trust(figures, assessment.temperature, of)]
    return (*parts, *_slices(figures, of))


def _trust(figures: ClassificationFigures, temperature: Temperature | None, of: str) -> Section:
    raw, after = figures.calibration, figures.calibrated
    low, high = raw.ece_by_chance
    agrees = raw.ece <= high
    said = [
        f"Percentages and shares that were right differ by {100 * raw.ece:.1f} points on average (expected calibration"
        f" error, {of}). Of percentages that are exactly right, so many samples would show {100 * low:.1f} to"
        f" {100 * high:.1f} points by chance: {'these agree as well as can be told' if agrees else _direction(raw)}."
    ]
    if temperature is not None and after is not None:
        low, high = temperature.interval.low, temperature.interval.high
        said.append(
            f"Logits divided by a temperature of {temperature.value:.3g} (95 % interval {low:.3g} to {high:.3g}, fitted"
            f" on {temperature.fitted_on}, n = {temperature.n:,}) would make that {100 * after.ece:.1f} points, and the"
            f" log loss {after.nll:.4f} instead of {raw.nll:.4f}. Answers stay the same; only their percentages change."
        )
    return Section("How far to trust the percentages", tuple(said), (_bins(raw, after),))


def _direction(calibration: Calibration) -> str:
    known = [(part.n, part.confidence or 0, part.accuracy.value or 0) for part in calibration.bins if part.n]
    surplus = sum(n * (said - true) for n, said, true in known)
    return "the network is too sure of itself" if surplus > 0 else "the network is not sure enough"


def _bins(raw: Calibration, after: Calibration | None) -> Table:
    columns = ("confidence", "samples", "mean confidence", "right", "95 % interval")
    rows = []
    for name, calibration in (("", raw), (", with the temperature", after)):
        for part in calibration.bins if calibration is not None else ():
            if part.n:
                span = f"{percent(part.low)} to {percent(part.high)}{name}"
                rows.append((span, part.n, percent(part.confidence), *_share(part.accuracy)))
    return Table("Answers by their confidence", columns, tuple(rows))


def _slices(figures: Figures, of: str) -> tuple[Section, ...]:
    shown = [entry for entry in figures.slices if entry.by != "class"] or list(figures.slices)
    if not shown:
        return ()
    share = isinstance(figures, ClassificationFigures)
    differing = [entry for entry in figures.slices if entry.differs]
    if differing:
        names = ", ".join(f"{_name(entry)} ({_value(entry.figure, share)})" for entry in differing[:8])
        sentence = f"More than chance explains, these differ from all other samples: {names}."
    else:
        sentence = "No part differs from all other samples by more than chance explains."
    columns = ("part", "n", "accuracy" if share else "RMSE", "95 % interval", "p", "differs")
    rows = tuple(
        (
            _name(s),
            s.n,
            _value(s.figure, share),
            _span(s.figure, share),
            f"{s.p_value:.2g}",
            "yes" if s.differs else "no",
        )
        for s in shown[:ROWS]
    )
    note = (
        "p: of the question whether a part differs from all others. What differs is corrected for how many were asked."
    )
    return (Section("Parts of the data", (sentence, note), (Table(f"Parts of the {of}", columns, rows),)),)


def _name(entry: Slice) -> str:
    return f"{entry.by}: {entry.name}"


def _numbers(figures: RegressionFigures, of: str) -> Section:
    tables = []
    for target in figures.targets:
        rows = tuple((_NUMBERS.get(key, key), *_plain(figure)) for key, figure in target.figures.items())
        tables.append(Table(f"{target.name}, {of}", ("figure", "value", "95 % interval"), rows))
        if len(target.ranges) > 1:
            heads = ("true value", "n", *(p for key in _RANGES for p in (_NUMBERS[key], "95 % interval")))
            parts: tuple[Row, ...] = tuple(
                (f"{r.low:.4g} to {r.high:.4g}", r.n, *(c for key in _RANGES for c in _plain(r.figures[key])))
                for r in target.ranges
            )
            tables.append(Table(f"{target.name} by its true value", heads, parts))
    largest = tuple((a.path, a.target, _text(a.true), _text(a.predicted), _text(a.error)) for a in figures.largest)
    tables.append(Table(f"Largest errors, {of}", ("sample", "number", "true", "predicted", "error"), largest))
    said = "Bias: the mean of predicted minus true. All in the units of the data."
    return Section("Each number", (said,), tuple(tables))


_NUMBERS = {"rmse": "RMSE", "mae": "mean absolute error", "bias": "bias", "r2": "R²"}
_RANGES = ("bias", "rmse")


def _share(figure: Estimate) -> tuple[str, str]:
    return _value(figure, True), _span(figure, True)


def _plain(figure: Estimate) -> tuple[str, str]:
    return _value(figure, False), _span(figure, False)


def _value(figure: Estimate, share: bool) -> str:
    return percent(figure.value) if share else _text(figure.value)


def _span(figure: Estimate, share: bool) -> str:
    if figure.interval is None:
        return "–"
    ends: Sequence[str] = [_value(Estimate(end), share) for end in (figure.interval.low, figure.interval.high)]
    return " to ".join(ends)


def _text(value: float | None) -> str:
    return number(None if value is None else float(f"{value:.4g}"))
