"""A regression in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.statistics.estimate import plain
from striate.tasks.evaluation import Evaluation
from striate.tasks.regress.metrics import RegressionMetrics, TargetMetrics
from striate.tasks.show import FINE_DPI, ROWS, Images, Row, plain_cells, ranked_pictures, split_text
from striate.visualize.canvas import save_figure
from striate.visualize.charts import chart
from striate.visualize.estimates import draw_bias, scatter_figure
from striate.visualize.gallery import Tile, gallery_figure
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.themed_svg import themed_svg
from striate.wording import number, several

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 10


def scatter_picture(folder: Path, evaluation: Evaluation, title: str, target_names: Sequence[str]) -> Picture:
    """`scatter.png`: predicted against true."""
    figure = scatter_figure(evaluation.decoded, evaluation.targets, target_names, title=title)
    path = save_figure(figure, folder / "scatter.png", FINE_DPI)
    caption = f"{title}. On the dashed line predicted and true values are equal."
    return Picture("Predicted and true", caption, path, "scatter", (themed_svg(figure, caption),))


def sample_pictures(folder: Path, evaluation: Evaluation, images: Images, names: Sequence[str]) -> tuple[Picture, ...]:
    """The samples with the largest, typical and smallest errors, with predicted and true numbers."""
    parts = [
        np.asarray(part, np.float64).reshape(evaluation.n, -1) for part in (evaluation.decoded, evaluation.targets)
    ]
    predicted, true = parts
    scale = np.maximum(true.std(0), np.finfo(np.float64).tiny)  # each number has the same weight, whatever its unit
    order = np.argsort(-(((predicted - true) / scale) ** 2).mean(1), kind="stable")

    def draw(places: NDArray[np.int64], title: str) -> Figure:
        texts = ([", ".join(map(number, row)) for row in part[places]] for part in parts)
        chosen = zip(np.asarray(images[places]), *texts, strict=True)
        tiles = [Tile(image, predicted, None, truth, right=True) for image, predicted, truth in chosen]
        return gallery_figure(tiles, title=title)

    choices = (
        "those with the largest errors: look here for wrong targets",
        "those around the median",
        "the smallest errors",
    )
    note = ". Below each image: what is predicted, and what is true."
    return ranked_pictures(folder, evaluation, order, draw, choices=choices, note=note, names=names, shown=SHOWN)


def numbers_section(figures: RegressionMetrics, of: str) -> Section:
    """Each number with its intervals, its bias by range, and the largest errors."""
    tables, charts, behind = [], [], []
    for target in figures.targets:
        rows = tuple((_NUMBERS.get(key, key), *plain_cells(figure)) for key, figure in target.metrics.items())
        tables.append(Table(f"{target.name}, {of}", ("metric", "value", "95 % interval"), rows))
        if len(target.ranges) > 1:
            ranges, name = plain(target.ranges), target.name
            draw = partial(draw_bias, ranges=ranges, name=name)
            charts.append(chart(draw, f"Bias of {name} in each range of its true value", width=4.6))
            behind.append(_range_table(target))
    largest = tuple((a.path, a.target, number(a.true), number(a.predicted), number(a.error)) for a in figures.largest)
    tables.append(Table(f"Largest errors, {of}", ("sample", "number", "true", "predicted", "error"), largest))
    sentence = "Bias: the mean of predicted minus true. All in the units of the data."
    caption = f"{of}. Mean of predicted minus true in each range of true values, with its 95 % interval."
    return Section("Each number", (sentence,), tuple(tables), tuple(charts), caption, tuple(behind))


def _range_table(target: TargetMetrics) -> Table:
    heads = ("true value", "n", *(part for key in _RANGES for part in (_NUMBERS[key], "95 % interval")))
    rows: tuple[Row, ...] = tuple(
        (
            f"{number(r.low)} to {number(r.high)}",
            r.n,
            *(cell for key in _RANGES for cell in plain_cells(r.metrics[key])),
        )
        for r in target.ranges
    )
    return Table(f"{target.name} by its true value", heads, rows)


_NUMBERS = {"rmse": "RMSE", "mae": "mean absolute error", "bias": "bias", "r2": "R²"}


_RANGES = ("bias", "rmse")


def prediction_table(evaluation: Evaluation, target_names: Sequence[str], paths: Sequence[str]) -> Table:
    """True and predicted numbers of the first samples, by their `paths` where they have any."""
    truth, predicted = (a.reshape(evaluation.n, -1)[:ROWS] for a in (evaluation.targets, evaluation.decoded))
    columns = ("sample", *(f"{name}, {what}" for name in target_names for what in ("true", "predicted")))
    rows: list[tuple[str | float, ...]] = []
    for sample, true_row, predicted_row in zip(paths or evaluation.ids, truth, predicted, strict=False):
        pairs = (float(v) for pair in zip(true_row, predicted_row, strict=True) for v in pair)
        rows.append((str(sample), *pairs))
    caption = (
        f"{'The first ' if evaluation.n > ROWS else ''}{several(len(rows), 'prediction')}, {split_text(evaluation)}"
    )
    return Table(caption, columns, tuple(rows))


def pooled_scatter(
    folder: Path, truth: NDArray[Any], decoded: NDArray[Any], title: str, of: str, names: Sequence[str]
) -> Picture:
    """`scatter.png` of the pooled predictions of a cross-validation."""
    figure = scatter_figure(decoded, truth, names, title=title)
    path = save_figure(figure, folder / "scatter.png", FINE_DPI)
    caption = f"{of}. On the dashed line predicted and true values are equal."
    return Picture("Predicted and true", caption, path, "scatter", (themed_svg(figure, caption),))
