"""Parts of reports that several tasks share: slices of the data, cells of tables, and the choice of images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.drawn_inputs import DrawnInputs
from striate.data.store.stored import StoredInputs
from striate.statistics.calibration import Calibration, Temperature
from striate.statistics.estimate import Estimate, plain
from striate.tasks.assessment import Slice, SplitMetrics
from striate.tasks.evaluation import Evaluation
from striate.tasks.metric import Metric
from striate.visualize.canvas import of_split
from striate.visualize.charts import chart
from striate.visualize.classification_charts import draw_reliability
from striate.visualize.estimates import SHOWN, draw_slices
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.themed_svg import saved_picture
from striate.wording import listed, number, percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Images = NDArray[Any] | StoredInputs | DrawnInputs
# Photographs make large files; pictures of lines and text can have a higher resolution.
PHOTO_DPI, CHART_DPI, FINE_DPI = 80, 100, 144
Row = tuple[str | int | float | None, ...]


ROWS = 200
"""Largest number of rows of a table of slices."""


def slices_section(figures: SplitMetrics, metric: Metric, of: str) -> tuple[Section, ...]:
    """The slices of the data, as a table and a chart; empty where there are none."""
    share = metric.is_share
    # Classes have a table of their own.
    shown = [entry for entry in figures.slices if entry.by != "class" or not hasattr(figures, "classes")]
    differing = sorted((entry for entry in shown if entry.differs), key=lambda entry: entry.p_value)
    if not shown:
        return ()
    sentence = "No part differs significantly from all other samples."
    if differing:
        names = listed([f"{_name(entry)} ({value_text(entry.value, share)})" for entry in differing], 8)
        sentence = f"These parts differ significantly from all other samples: {names}."
    figure = metric.name
    columns = ("part", "n", figure, "95 % interval", "p", "differs")
    rows = tuple(
        (_name(s), s.n, value_text(s.value, share), span_cell(s.value, share), f"{s.p_value:.2g}", _yes(s.differs))
        for s in shown[:ROWS]
    )
    overall = figures.metrics[metric.key].value or 0.0
    label = f"{figure} of each part of the {of}. {sentence}"
    height = 1.1 + 0.22 * min(len(shown), SHOWN)
    drawn = chart(lambda axes: draw_slices(axes, plain(shown), overall, figure=figure), label, height, 5.0)
    spans = " with its 95 % interval" if any(s.value.interval for s in shown) else ""
    caption = (
        f"{of}. Each part{spans}. p: of the test against all other samples; 'differs' is"
        " corrected for the number of parts."
    )
    table = Table(f"Parts of the {of}", columns, rows)
    return (Section("Parts of the data", (sentence,), charts=(drawn,), caption=caption, behind=(table,)),)


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _name(entry: Slice) -> str:
    return f"{entry.by}: {entry.name}"


def share_cells(figure: Estimate) -> tuple[str, str]:
    """A share and its interval in percent, as two cells."""
    return value_text(figure, True), span_cell(figure, True)


def plain_cells(figure: Estimate) -> tuple[str, str]:
    """A number and its interval, as two cells."""
    return value_text(figure, False), span_cell(figure, False)


def value_text(figure: Estimate, share: bool) -> str:
    """The value, in percent if it is a share."""
    return percent(figure.value) if share else number(figure.value)


def span_cell(figure: Estimate, share: bool) -> str:
    """`95.1 % to 97.3 %`, or a dash."""
    if figure.interval is None:
        return "–"
    ends: Sequence[str] = [value_text(Estimate(end), share) for end in (figure.interval.low, figure.interval.high)]
    return " to ".join(ends)


def split_text(evaluation: Evaluation) -> str:
    """`test split of digits, n = 360`."""
    return f"{evaluation.split} split of {evaluation.data}, n = {evaluation.n:,}"


def drawable_images(inputs: ArrayLike | StoredInputs | None) -> NDArray[Any] | StoredInputs | None:
    """The inputs of a split, if they are images that can be drawn: (N, C, H, W) uint8 of one or three channels; else
    None."""
    images = inputs if inputs is None or isinstance(inputs, StoredInputs) else np.asarray(inputs)
    if images is None or images.ndim != 4 or images.shape[1] not in (1, 3):
        return None
    return None if isinstance(images, np.ndarray) and images.dtype != np.uint8 else images


def random_positions(n: int, count: int) -> NDArray[np.int64]:
    """Random positions in rising order; the same in every run."""
    return np.sort(np.random.default_rng(0).choice(n, min(n, count), replace=False))


def worst_typical_best(order: NDArray[np.int64], shown: int) -> tuple[NDArray[np.int64], ...]:
    """The first, the middle and the last positions of `order`, the last one first: `shown` each, or a third of few, so
    that no sample is in two of them."""
    shown = min(shown, max(1, len(order) // 3))
    middle = max(0, (len(order) - shown) // 2)
    return order[:shown], order[middle : middle + shown], order[::-1][:shown]


def ranked_pictures(
    folder: Path,
    evaluation: Evaluation,
    order: NDArray[np.int64],
    draw: Callable[[NDArray[np.int64], str], Figure],
    *,
    choices: tuple[str, str, str],
    note: str,
    names: Sequence[str] = (),
    at_random: str | None = None,
    shown: int = 4,
    drawn: int = 4,
) -> tuple[Picture, ...]:
    """`worst.png`, `typical.png` and `best.png` with `shown` samples each of `order`, from the worst to the best
    (`worst_typical_best`).

    If `at_random` has a file name, a picture of `drawn` random samples comes first. `draw(positions, title)` draws a
    figure of samples; `choices` says how the samples of each picture are chosen; `note` ends each caption, which lists
    the `names` of its samples.
    """
    title = of_split(evaluation.data, evaluation.split, evaluation.n)
    galleries = [
        (f"{kind} images", f"{kind.lower()}.png", chosen, choice)
        for kind, chosen, choice in zip(
            ("Worst", "Typical", "Best"), worst_typical_best(order, shown), choices, strict=True
        )
    ]
    if at_random is not None:
        chosen = random_positions(evaluation.n, drawn)
        galleries.insert(0, ("Samples", at_random, chosen, f"{len(chosen)} drawn at random"))
    pictures = []
    for name, file, chosen, caption in galleries:
        first = file == at_random
        figure = draw(chosen, title if first else f"{title}: {name.lower()}")
        listed = "" if first or not len(names) else f" ({', '.join(names[k] for k in chosen)})"
        words = f"{title}; {caption}{listed}{note}"
        pictures.append(saved_picture(name, words, figure, folder / file, "samples", PHOTO_DPI))
    return tuple(pictures)


def overall_table(metrics: Sequence[Metric], figures: SplitMetrics, of: str, over: str = "images") -> Table:
    """The metrics over all samples, each with its interval; `over` is what they average."""
    named = {metric.key: metric for metric in metrics}
    rows: tuple[Row, ...] = tuple(
        (named[key].name, *(share_cells if named[key].is_share else plain_cells)(figure))
        for key, figure in figures.metrics.items()
    )
    return Table(f"Over all {over}, {of}", ("metric", "value", "95 % interval"), rows)


def calibration_section(
    raw: Calibration, after: Calibration | None, temperature: Temperature | None, of: str, more: tuple[str, ...] = ()
) -> Section:
    """How far to trust the probabilities: calibration before and after the temperature; `more` sentences are
    appended."""
    low, high = raw.ece_by_chance
    agrees = raw.ece <= high
    sentences = [
        f"Confidence and accuracy differ by {100 * raw.ece:.1f} points on average (expected calibration error, {of})."
        f" A perfectly calibrated network would show {100 * low:.1f} to {100 * high:.1f} points by chance on this many"
        f" samples: {'no miscalibration beyond chance' if agrees else _direction(raw)}."
    ]
    if temperature is not None and temperature.interval.low <= 1 <= temperature.interval.high:
        low, high = temperature.interval.low, temperature.interval.high
        sentences.append(
            f"A temperature of {temperature.value:.3g} (fitted on {temperature.fitted_on}, n = {temperature.n:,}) does"
            f" not differ significantly from 1 (95 % interval {low:.3g} to {high:.3g}): leave the probabilities as"
            " they are."
        )
        after = None
    if temperature is not None and after is not None:
        low, high = temperature.interval.low, temperature.interval.high
        worse = " That does not help: leave the probabilities as they are." if after.nll >= raw.nll else ""
        worse += f" It is not reliable: {temperature.few}." if temperature.few else ""
        sentences.append(
            f"Logits divided by a temperature of {temperature.value:.3g} (95 % interval {low:.3g} to {high:.3g}, fitted"
            f" on {temperature.fitted_on}, n = {temperature.n:,}) would make that {100 * after.ece:.1f} points, and the"
            f" log loss {after.nll:.4f} instead of {raw.nll:.4f}. The predicted classes stay the same;"
            f" only their probabilities change.{worse}"
        )
    bins = plain(raw.bins), () if after is None else plain(after.bins)
    label = f"Reliability diagram of the {of}: expected calibration error {100 * raw.ece:.1f} points"
    return Section(
        "Calibration: how far to trust the probabilities",
        (*sentences, *more),
        charts=(chart(lambda axes: draw_reliability(axes, *bins), label, 3.6),),
        caption=f"{of}. Points: the accuracy of predictions of similar confidence, with its 95 % interval; on the"
        " dashed line both agree. Gray: the number of predictions. Pale: fewer than ten.",
        behind=(_bins(raw, after),),
    )


def _direction(calibration: Calibration) -> str:
    if calibration.over_and_under is not None:
        over, under = (percent(mean, 0) for mean in calibration.over_and_under)
        over, under = f"overconfident where its confidence is about {over}", f"underconfident where it is about {under}"
        return f"the network is {over}, and {under}"
    return f"the network is {'overconfident' if calibration.overconfidence > 0 else 'underconfident'}"


def _bins(raw: Calibration, after: Calibration | None) -> Table:
    columns = ("confidence", "samples", "mean confidence", "accuracy", "95 % interval")
    rows = []
    for name, calibration in (("", raw), (", with the temperature", after)):
        for part in calibration.bins if calibration is not None else ():
            if part.n:
                span = f"{percent(part.low)} to {percent(part.high)}{name}"
                rows.append((span, part.n, percent(part.confidence), *share_cells(part.accuracy)))
    return Table("Predictions by confidence", columns, tuple(rows))
