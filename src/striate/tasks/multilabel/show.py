"""Sets of labels in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.tasks.evaluation import Evaluation
from striate.tasks.multilabel.assess import MATRIX, names_of, sample_f1
from striate.tasks.multilabel.metrics import METRICS, MultilabelMetrics
from striate.tasks.show import (
    CHART_DPI,
    PHOTO_DPI,
    Images,
    Row,
    overall_table,
    random_positions,
    share_cells,
    split_text,
    worst_typical_best,
)
from striate.visualize.canvas import BLUE, INK, SMALL, heading, main_title, new_figure, of_split, save_figure, shorten
from striate.visualize.gallery import Tile, encode, gallery_figure
from striate.visualize.page_parts import Picture, SampleTile, Section, Table
from striate.visualize.themed_svg import themed_svg
from striate.wording import percent, several

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN, COUNTED = 10, 14


def label_pictures(
    folder: Path, evaluation: Evaluation, images: Images | None, predicted: NDArray[np.bool_], names: Sequence[str]
) -> tuple[Picture, ...]:
    """Random samples, and samples with the lowest F1, around its median and with the highest, with their labels; and
    `together.png`, which the report has as a chart."""
    title = of_split(evaluation.data, evaluation.split, evaluation.n)
    if len(evaluation.classes) <= MATRIX:
        true = evaluation.targets > 0
        figure = cooccurrence_figure(
            true.T @ true.astype(int), predicted.T @ predicted.astype(int), evaluation.classes, title
        )
        save_figure(figure, folder / "together.png", CHART_DPI)
    if images is None:
        return ()
    each = sample_f1(evaluation.targets, predicted)
    order = np.argsort(each, kind="stable")
    worst, typical, best = worst_typical_best(order, SHOWN)
    galleries = (
        ("Drawn at random", "samples.png", random_positions(evaluation.n, SHOWN), "drawn at random"),
        ("Worst samples", "worst.png", worst, "samples with the lowest F1: look here for wrong labels"),
        ("Typical samples", "typical.png", typical, "samples around the median F1"),
        ("Best samples", "best.png", best, "samples with the highest F1"),
    )
    pictures = []
    for name, file, chosen, caption in galleries:
        pixels = np.asarray(images[chosen])
        figure = gallery_figure(_tiles(evaluation, pixels, chosen, predicted), title=f"{title}: {name.lower()}")
        path = save_figure(figure, folder / file, PHOTO_DPI)
        text = (
            f"{title}; {caption}. ✗ and a thick frame: not all labels are right. The percentages are the predicted"
            " probabilities of the labels."
        )
        tiles = _sample_tiles(evaluation, pixels, chosen, predicted, names)
        pictures.append(Picture(name, text, path, "samples", tiles=tiles))
    return tuple(pictures)


def _words(names: Sequence[str]) -> str:
    return ", ".join(names) or "no label"


def _sureness(probabilities: NDArray[Any], predicted: NDArray[np.bool_]) -> float:
    """The probability of the set, if labels are independent."""
    return float(np.prod(np.where(predicted, probabilities, 1 - probabilities)))


def _tiles(
    evaluation: Evaluation, pixels: NDArray[np.uint8], chosen: NDArray[np.int64], predicted: NDArray[np.bool_]
) -> list[Tile]:
    tiles = []
    for place, image in zip(chosen.tolist(), pixels, strict=True):
        labels, true = (names_of(part[place], evaluation.classes) for part in (predicted, evaluation.targets))
        sure = _sureness(evaluation.decoded[place], predicted[place])
        tiles.append(Tile(image, _words(labels), sure, _words(true), labels == true))
    return tiles


def _sample_tiles(
    evaluation: Evaluation,
    pixels: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    predicted: NDArray[np.bool_],
    names: Sequence[str],
) -> tuple[SampleTile, ...]:
    tiles = []
    for place, image in zip(chosen.tolist(), pixels, strict=True):
        shares = evaluation.decoded[place]
        own = [f"{evaluation.classes[k]} {percent(float(shares[k]))}" for k in np.flatnonzero(predicted[place])]
        true = names_of(evaluation.targets[place], evaluation.classes)
        right = bool((predicted[place] == (evaluation.targets[place] > 0)).all())
        name = names[place] if len(names) else f"sample {int(evaluation.ids[place])}"
        tiles.append(SampleTile(*encode(image), name, _words(own), _words(true), right))
    return tuple(tiles)


def cooccurrence_figure(true: ArrayLike, predicted: ArrayLike, names: Sequence[str], title: str) -> Figure:
    """Which labels occur together in truth and in predictions, side by side: (K, K) counts."""
    side = max(2.6, 0.34 * len(names))
    longest = 0.075 * max(len(shorten(name, 18)) for name in names)
    figure = new_figure(2 * (side + longest) + 0.6, side + longest + 1.0)
    axes = figure.subplots(1, 2)
    for part, counts, name in zip(axes, (true, predicted), ("true", "predicted"), strict=True):
        _draw_together(part, np.asarray(counts), names)
        heading(part, name)
    main_title(figure, title)
    return figure


def _draw_together(axes: Axes, counts: NDArray[np.int64], names: Sequence[str]) -> None:
    """The color is the share of the samples with the row's label that also have the column's label."""
    from matplotlib.colors import LinearSegmentedColormap

    shares = counts / np.maximum(counts.diagonal()[:, None], 1)
    shades = LinearSegmentedColormap.from_list("shades", [f"{BLUE}00", BLUE])
    axes.imshow(shares, cmap=shades, vmin=0, vmax=1, interpolation="nearest")
    places, shown = range(len(names)), [shorten(name, 18) for name in names]
    axes.set_xticks(places, shown, rotation=90, fontsize=SMALL, parse_math=False)
    axes.set_yticks(places, shown, fontsize=SMALL, parse_math=False)
    axes.tick_params(length=0)
    for row, column in np.argwhere(counts) if len(names) <= COUNTED else ():
        color = "white" if shares[row, column] > 0.7 else INK
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", fontsize=SMALL, color=color)


def cooccurrence_section(figures: MultilabelMetrics, of: str) -> tuple[Section, ...]:
    """Which labels occur together, and the pairs that are predicted together more or less often than they are true."""
    if figures.together is None or figures.predicted_together is None:
        return ()
    true, predicted = np.array(figures.together), np.array(figures.predicted_together)
    names = [row.name for row in figures.labels]
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    pairs.sort(key=lambda pair: (-abs(int(predicted[pair] - true[pair])), -int(true[pair])))
    rows: tuple[Row, ...] = tuple(
        (f"{names[j]} and {names[i]}", int(true[i, j]), int(predicted[i, j]), int(predicted[i, j] - true[i, j]))
        for i, j in pairs
        if true[i, j] or predicted[i, j]
    )
    worst = next((row for row in rows if row[3]), None)
    sentence = "Each pair is predicted together as often as it is true."
    if worst is not None:
        sentence = (
            f"Largest difference: {worst[0]}, in {worst[1]} of {several(figures.n, 'sample')}, predicted in {worst[2]}."
        )
    figure = cooccurrence_figure(true, predicted, names, "")
    label = f"Which labels occur together, in truth and as predicted; {of}. {sentence}"
    return (
        Section(
            "Which labels occur together",
            (sentence,),
            charts=(themed_svg(figure, label),),
            caption=f"{of}. Color: the share of the samples with the label of the row that also have the label of the"
            " column. Diagonal: all samples with the label. Numbers are samples.",
            behind=(Table(f"Pairs of labels, {of}", ("pair", "true", "predicted", "more"), rows[:200]),),
        ),
    )


def tables(evaluation: Evaluation, figures: MultilabelMetrics) -> dict[str, Table | None]:
    """Over all labels, and each label."""
    of, heads = split_text(evaluation), ("average precision", "precision", "recall", "F1")
    columns = ("label", "n", *(part for head in heads for part in (head, "95 % interval")), "threshold")
    rows: tuple[Row, ...] = tuple(
        (
            row.name,
            row.n,
            *(cell for figure in (row.ap, row.precision, row.recall, row.f1) for cell in share_cells(figure)),
            f"{row.threshold:.3f}",
        )
        for row in figures.labels
    )
    return {
        "averages": overall_table(METRICS, figures, of, "labels"),
        "classes": Table(f"Each label, {of}", columns, rows),
    }
