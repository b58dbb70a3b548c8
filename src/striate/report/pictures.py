"""Draws the pictures of a run into its `plots/` folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.store.stored import StoredInputs
from striate.evaluation.record import Evaluation
from striate.report.charts import curve_charts
from striate.report.content import Picture
from striate.report.numbers import MATRIX
from striate.report.tiles import sample_tiles
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.confusion import COUNTED, confusion_figure
from striate.visualize.curves import curves_figure
from striate.visualize.gallery import Tile, gallery_figure
from striate.visualize.masks import masks_figure
from striate.visualize.scatter import scatter_figure
from striate.visualize.themed_svg import themed_svg

SHOWN = 15
"""Samples in a gallery."""
SHOWN_MASKS = 5
Images = NDArray[Any] | StoredInputs
# Photographs make large files; what is only lines and letters may be finer.
_PHOTO_DPI, _CHART_DPI, _FINE_DPI = 80, 100, 144


def draw_curves(
    folder: Path,
    history: Sequence[Mapping[str, float | None]],
    *,
    metric: str,
    data: str,
    sizes: Mapping[str, int],
    best_epoch: float | None = None,
) -> Picture:
    """`curves.png`: the columns `epoch lr train_loss val_loss train_<m> val_<m>` of `history`, a row an epoch.

    `sizes` says how many samples `train` and `val` have; `best_epoch` is None where the last epoch is kept.
    """
    of = ", ".join(f"{split} n = {n:,}" for split, n in sizes.items() if split in ("train", "val"))
    title = f"{data}, {of}"
    figure = curves_figure(history, metric=metric, title=title, best_epoch=best_epoch)
    caption = f"{title}; {len(history)} {'epoch' if len(history) == 1 else 'epochs'}."
    caption += (
        " The weights of the last epoch are kept."
        if best_epoch is None
        else f" The dotted line is the best epoch, {best_epoch:g}, whose weights are kept."
    )
    path = save_figure(figure, folder / "curves.png", _FINE_DPI)
    return Picture("Learning curves", caption, path, "curves", curve_charts(history, metric, best_epoch))


def draw_answers(
    folder: Path,
    evaluation: Evaluation,
    inputs: ArrayLike | StoredInputs | None = None,
    *,
    target_names: Sequence[str] = (),
    names: Sequence[str] = (),
) -> tuple[Picture, ...]:
    """What the task has to show: confusion and galleries, a scatter plot, or masks.

    `inputs`: (N, C, H, W) uint8 of the evaluated split; None (tables, grids) leaves out pictures of samples. `names`
    of the samples, such as their paths.
    """
    title = of_split(evaluation.data, evaluation.split, evaluation.n)
    images = inputs if inputs is None or isinstance(inputs, StoredInputs) else np.asarray(inputs)
    drawable = images is not None and images.ndim == 4 and images.shape[1] in (1, 3)
    if not drawable or (isinstance(images, np.ndarray) and images.dtype != np.uint8):
        images = None
    if evaluation.task == "classify":
        galleries = () if images is None else _galleries(folder, evaluation, images, title, names)
        return (_confusion(folder, evaluation, title), *galleries)
    if evaluation.task == "segment":
        return () if images is None else (_masks(folder, evaluation, images, title),)
    columns = list(target_names) or [""] * evaluation.decoded.reshape(evaluation.n, -1).shape[1]
    figure = scatter_figure(evaluation.decoded, evaluation.targets, columns, title=title)
    path = save_figure(figure, folder / "scatter.png", _FINE_DPI)
    caption = f"{title}. On the dashed line both are equal."
    return (Picture("Predicted and true", caption, path, "scatter", (themed_svg(figure, caption, arranged=True),)),)


def _confusion(folder: Path, evaluation: Evaluation, title: str) -> Picture:
    assert evaluation.confusion is not None
    figure = confusion_figure(evaluation.confusion, evaluation.classes, title=title)
    path = save_figure(figure, folder / "confusion.png", _CHART_DPI)
    what = "numbers are counts, an empty cell is 0" if len(evaluation.classes) <= COUNTED else "no counts shown"
    caption = f"{title}. A row a true class, a column a predicted one; the darker, the larger its share; {what}."
    # Of few classes a page shows the matrix as a table.
    panels = () if len(evaluation.classes) <= MATRIX else (themed_svg(figure, caption, arranged=True),)
    return Picture("Confusion matrix", caption, path, "confusion", panels)


def _galleries(
    folder: Path, evaluation: Evaluation, images: Images, title: str, names: Sequence[str]
) -> tuple[Picture, ...]:
    """The most confident mistakes, the least sure hits, and some at random."""
    sure = evaluation.decoded.max(1)
    right = evaluation.decoded.argmax(1) == evaluation.targets
    wrong, hits, drawn = np.flatnonzero(~right), np.flatnonzero(right), _at_random(evaluation.n, SHOWN)
    mistakes = wrong[np.argsort(-sure[wrong], kind="stable")[:SHOWN]]
    highest = -np.partition(-evaluation.decoded[hits], 1, axis=1)[:, :2] if evaluation.decoded.shape[1] > 1 else None
    lead = sure[hits] if highest is None else highest[:, 0] - highest[:, 1]
    unsure = hits[np.argsort(lead, kind="stable")[:SHOWN]]
    marks = "✓ right; ✗ and a thick frame: wrong, with the true class. The percentage is the network's own."
    galleries = (
        ("Most confident mistakes", "mistakes.png", mistakes,
         f"the {len(mistakes)} of {len(wrong):,} mistakes made with the most confidence: look here for wrong labels."),
        ("Least sure hits", "unsure.png", unsure, f"the {len(unsure)} of {len(hits):,} right answers that led the"
         " next class by the least: more samples like these would help."),
        ("Samples", "samples.png", drawn, f"{len(drawn)} drawn at random. {marks}"),
    )  # fmt: skip
    pictures = []
    for name, file, chosen, caption in galleries:
        if len(chosen):
            pixels = np.asarray(images[chosen])
            figure = gallery_figure(_tiles(evaluation, pixels, chosen), title=f"{title}: {name.lower()}")
            path = save_figure(figure, folder / file, _PHOTO_DPI)
            tiles = sample_tiles(evaluation, pixels, chosen, names, runner_up=chosen is unsure)
            pictures.append(Picture(name, f"{title}; {caption}", path, "samples", tiles=tiles))
    return tuple(pictures)


def _masks(folder: Path, evaluation: Evaluation, images: Images, title: str) -> Picture:
    chosen = _at_random(evaluation.n, SHOWN_MASKS)
    figure = masks_figure(
        np.asarray(images[chosen]),
        evaluation.targets[chosen],
        evaluation.decoded[chosen],
        evaluation.classes,
        title=title,
    )
    path = save_figure(figure, folder / "masks.png", _PHOTO_DPI)
    caption = f"{title}; {len(chosen)} drawn at random. Hatched: wrong. Gray checks: not labeled."
    return Picture("Samples", caption, path, "samples")


def _tiles(evaluation: Evaluation, pixels: NDArray[np.uint8], chosen: NDArray[np.int64]) -> list[Tile]:
    tiles = []
    for place, image in zip(chosen, pixels, strict=True):
        said, true = int(evaluation.decoded[place].argmax()), int(evaluation.targets[place])
        probability = float(evaluation.decoded[place, said])
        names = evaluation.classes
        tiles.append(Tile(image, names[said], probability, names[true], said == true))
    return tiles


def _at_random(n: int, count: int) -> NDArray[np.int64]:
    """The same places in every run, in rising order."""
    return np.sort(np.random.default_rng(0).choice(n, min(n, count), replace=False))
