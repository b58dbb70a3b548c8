"""What evaluation.json says, as parts of the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from striate.evaluation.assessment.record import (
    Assessment,
    Calibration,
    ClassificationFigures,
    Estimate,
    Figures,
    RegressionFigures,
    Slice,
    TargetFigures,
    Temperature,
    plain,
)
from striate.report.charts import chart
from striate.report.content import Section, Table
from striate.report.wording import number, percent
from striate.visualize.estimates import SHOWN, draw_bias, draw_slices
from striate.visualize.rank_curves import draw_precision_recall, draw_roc
from striate.visualize.reliability import draw_reliability

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
        parts = [*_thresholds(figures, of), _trust(figures, assessment.temperature, of)]
    return (*parts, *_slices(figures, of))


def _thresholds(figures: ClassificationFigures, of: str) -> tuple[Section, ...]:
    """ROC and precision–recall curves, and points of them in numbers."""
    if not figures.curves:
        return ()
    curves, classes = plain(figures.curves), plain(figures.classes)
    charts = (
        chart(lambda axes: draw_roc(axes, curves, classes), f"ROC curve of each class against the rest, {of}", 3.4),
        chart(lambda axes: draw_precision_recall(axes, curves, classes), f"Precision against recall, {of}", 3.4),
    )
    false, found = (0.01, 0.05, 0.1), (0.5, 0.8, 0.95)
    columns = (
        "class",
        *(f"found with {100 * rate:g} % false alarms" for rate in false),
        *(f"precision where {100 * rate:g} % are found" for rate in found),
    )
    rows = tuple(
        (
            curve.name,
            *(percent(_at(rate, curve.false_positive_rate, curve.true_positive_rate)) for rate in false),
            *(percent(_at(rate, curve.recall, curve.precision)) for rate in found),
        )
        for curve in figures.curves
    )
    caption = (
        f"{of}. Each class against the rest, over all thresholds on its probability. The classes that are told apart"
        " the worst are named; the areas of all are in the table of the classes."
    )
    return (Section("Thresholds", charts=charts, caption=caption, behind=(Table(f"Points, {of}", columns, rows),)),)


def _at(place: float, x: Sequence[float], y: Sequence[float]) -> float:
    """The height of a curve between its points, which may come in either order."""
    order = np.argsort(np.asarray(x), kind="stable")
    return float(np.interp(place, np.asarray(x)[order], np.asarray(y)[order]))


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
        worse = " That is no better: leave the percentages as they are." if after.nll >= raw.nll else ""
        said.append(
            f"Logits divided by a temperature of {temperature.value:.3g} (95 % interval {low:.3g} to {high:.3g}, fitted"
            f" on {temperature.fitted_on}, n = {temperature.n:,}) would make that {100 * after.ece:.1f} points, and the"
            f" log loss {after.nll:.4f} instead of {raw.nll:.4f}. Answers stay the same; only their percentages"
            f" change.{worse}"
        )
    bins = plain(raw.bins), () if after is None else plain(after.bins)
    label = f"Reliability diagram of the {of}: expected calibration error {100 * raw.ece:.1f} points"
    return Section(
        "How far to trust the percentages",
        tuple(said),
        charts=(chart(lambda axes: draw_reliability(axes, *bins), label, 3.6),),
        caption=f"{of}. A point: answers of about that confidence, and how many of them are right, with its 95 %"
        " interval; on the dashed line both agree. Gray: how many answers there are. Pale: fewer than ten.",
        behind=(_bins(raw, after),),
    )


def _direction(calibration: Calibration) -> str:
    if calibration.both_ways is not None:
        over, under = (f"{100 * said:.0f} %" for said in calibration.both_ways)
        return f"the network is too sure of answers of about {over}, and not sure enough of those of about {under}"
    return "the network is too sure of itself" if calibration.surplus > 0 else "the network is not sure enough"


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
    share = isinstance(figures, ClassificationFigures)
    # Classes have a table of their own.
    shown = [entry for entry in figures.slices if entry.by != "class"]
    differing = [entry for entry in shown if entry.differs]
    if not shown:
        return ()
    sentence = "No part differs from all other samples by more than chance explains."
    if differing:
        names = ", ".join(f"{_name(entry)} ({_value(entry.figure, share)})" for entry in differing[:8])
        sentence = f"By more than chance explains, these differ from all other samples: {names}."
    figure = "accuracy" if share else "RMSE"
    columns = ("part", "n", figure, "95 % interval", "p", "differs")
    rows = tuple(
        (_name(s), s.n, _value(s.figure, share), _span(s.figure, share), f"{s.p_value:.2g}", _yes(s.differs))
        for s in shown[:ROWS]
    )
    overall = figures.figures["accuracy" if share else "rmse"].value or 0.0
    label = f"{figure} of each part of the {of}. {sentence}"
    height = 1.1 + 0.22 * min(len(shown), SHOWN)
    drawn = chart(lambda axes: draw_slices(axes, plain(shown), overall, figure=figure), label, height, 5.0)
    caption = (
        f"{of}. Each part with its 95 % interval. p: of the question whether it differs from all others; what differs"
        " is corrected for how many parts were looked at."
    )
    table = Table(f"Parts of the {of}", columns, rows)
    return (Section("Parts of the data", (sentence,), charts=(drawn,), caption=caption, behind=(table,)),)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _name(entry: Slice) -> str:
    return f"{entry.by}: {entry.name}"


def _numbers(figures: RegressionFigures, of: str) -> Section:
    tables, charts, behind = [], [], []
    for target in figures.targets:
        rows = tuple((_NUMBERS.get(key, key), *_plain(figure)) for key, figure in target.figures.items())
        tables.append(Table(f"{target.name}, {of}", ("figure", "value", "95 % interval"), rows))
        if len(target.ranges) > 1:
            ranges, name = plain(target.ranges), target.name
            draw = partial(draw_bias, ranges=ranges, name=name)
            charts.append(chart(draw, f"Bias of {name} in each range of its true value", width=4.6))
            behind.append(_range_table(target))
    largest = tuple((a.path, a.target, _text(a.true), _text(a.predicted), _text(a.error)) for a in figures.largest)
    tables.append(Table(f"Largest errors, {of}", ("sample", "number", "true", "predicted", "error"), largest))
    said = "Bias: the mean of predicted minus true. All in the units of the data."
    caption = f"{of}. Mean of predicted minus true in each range of true values, with its 95 % interval."
    return Section("Each number", (said,), tuple(tables), tuple(charts), caption, tuple(behind))


def _range_table(target: TargetFigures) -> Table:
    heads = ("true value", "n", *(part for key in _RANGES for part in (_NUMBERS[key], "95 % interval")))
    rows: tuple[Row, ...] = tuple(
        (f"{r.low:.4g} to {r.high:.4g}", r.n, *(cell for key in _RANGES for cell in _plain(r.figures[key])))
        for r in target.ranges
    )
    return Table(f"{target.name} by its true value", heads, rows)


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
