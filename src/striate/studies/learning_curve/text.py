"""A learning curve as a sentence, and as text for a terminal of 80 columns."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from striate.errors import one_line
from striate.tasks.metric_names import metric_named, metric_text
from striate.wording import paragraph

if TYPE_CHECKING:
    from striate.studies.learning_curve.record import LearningCurve

_WIDTH = 80
_SHOWN_SEEDS = 3


def share_text(share: float) -> str:
    """`1/8`, `all`."""
    return "all" if share == 1 else f"1/{round(1 / share)}"


def told(curve: LearningCurve) -> str:
    """What twice the labels would bring, or that it cannot be told."""
    n = max(point.n for point in curve.points)
    if curve.gain is None:
        return (
            f"What more labels would bring cannot be told: with all {n:,} training samples hardly any of the"
            f" {curve.n_test:,} test samples are wrong."
        )
    low, high = (_amount(end, curve.metric) for end in curve.gain.interval)
    gain, shown = _amount(curve.gain.value, curve.metric), f"(95 %: {low} to {high})"
    metric = metric_named(curve.metric)
    points = metric.is_share
    luck = "" if len(curve.seeds) > 1 else " One training each: the luck of a training is not in the interval."
    if curve.gain.told:
        brings = (
            f"bring about {gain} points of test {metric.name}"
            if points
            else f"lower the test {metric.name} by about {gain}"
        )
        return f"Twice the labels ({2 * n:,} training samples) would {brings} {shown}, by a power law.{luck}"
    near = f"too near to nothing for {curve.n_test:,} test samples"
    doubt = "which may be nothing" if curve.gain.interval[0] <= 0 else near
    amount = (
        f"{gain} points of test {metric.name}" if points else f"{_article(metric.name)} {metric.name} lower by {gain}"
    )
    return (
        f"What twice the labels ({2 * n:,} training samples) would bring cannot be told: by a power law {amount}"
        f" {shown}, {doubt}.{luck}"
    )


def _article(name: str) -> str:
    return "an" if name[0] in "aeiouAEIOUR" else "a"


def _amount(value: float, metric: str) -> str:
    text = f"{100 * value:.1f}" if metric_named(metric).is_share else f"{value:.3g}"
    return text.replace("-", "−") if float(text) else text.lstrip("-")


def render(curve: LearningCurve) -> str:
    """A row a size: samples, steps, the figure of each seed, their mean; then the sentence."""
    title = (
        f"{one_line(curve.data)}: {metric_named(curve.metric).name} of {curve.n_test:,} test samples after learning"
        " from parts of the training samples"
    )
    several = len(curve.seeds) > 1
    head = ["part", "samples", "steps", *(f"seed {seed}" for seed in curve.seeds[:_SHOWN_SEEDS])]
    rows = [[*head, *(["mean"] if several else [])]]
    for n in sorted({point.n for point in curve.points}):
        points = [point for point in curve.points if point.n == n]
        values = [point.value for point in points]
        row = [share_text(points[0].share), f"{n:,}", f"{points[0].steps:,}"]
        row += [metric_text(curve.metric, value) for value in values[:_SHOWN_SEEDS]]
        rows.append([*row, *([metric_text(curve.metric, statistics.fmean(values))] if several else [])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]
    return "\n".join([paragraph(title, _WIDTH), "", *table, "", paragraph(curve.sentence, _WIDTH)])
