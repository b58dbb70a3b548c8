"""Draws the pictures of a run into its `plots/` folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from striate.data.store.stored import StoredInputs
from striate.evaluation.record import Evaluation
from striate.report.content import Picture
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.confusion import COUNTED, confusion_figure
from striate.visualize.curves import curves_figure
from striate.visualize.gallery import Tile, gallery_figure
from striate.visualize.masks import masks_figure
from striate.visualize.scatter import scatter_figure

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
    return Picture("Learning curves", caption, path, "curves")


def draw_answers(
    folder: Path,
    evaluation: Evaluation,
    inputs: ArrayLike | StoredInputs | None = None,
    *,
    target_names: Sequence[str] = (),
) -> tuple[Picture, ...]:
    """What the task has to show: confusion and galleries, a scatter plot, or masks.

    `inputs`: (N, C, H, W) uint8 of the evaluated split; None (tables, grids) leaves out pictures of samples.
    """
    title = of_split(evaluation.data, evaluation.split, evaluation.n)
    images = inputs if inputs is None or isinstance(inputs, StoredInputs) else np.asarray(inputs)
    drawable = images is not None and images.ndim == 4 and images.shape[1] in (1, 3)
    if not drawable or (isinstance(images, np.ndarray) and images.dtype != np.uint8):
        images = None
    if evaluation.task == "classify":
        galleries = () if images is None else _galleries(folder, evaluation, images, title)
        return (_confusion(folder, evaluation, title), *galleries)
    if evaluation.task == "segment":
        return () if images is None else (_masks(folder, evaluation, images, title),)
    names = list(target_names) or [""] * evaluation.decoded.reshape(evaluation.n, -1).shape[1]
    figure = scatter_figure(evaluation.decoded, evaluation.targets, names, title=title)
    path = save_figure(figure, folder / "scatter.png", _FINE_DPI)
    return (Picture("Predicted and true", f"{title}. On the dashed line both are equal.", path, "scatter"),)


def _confusion(folder: Path, evaluation: Evaluation, title: str) -> Picture:
    assert evaluation.confusion is not None
    figure = confusion_figure(evaluation.confusion, evaluation.classes, title=title)
    path = save_figure(figure, folder / "confusion.png", _CHART_DPI)
    what = "numbers are counts, an empty cell is 0" if len(evaluation.classes) <= COUNTED else "no counts shown"
    caption = f"{title}. A row a true class, a column a predicted one; the darker, the larger its share; {what}."
    return Picture("Confusion matrix", caption, path, "confusion")


def _galleries(folder: Path, evaluation: Evaluation, images: Images, title: str) -> tuple[Picture, ...]:
    chosen = _at_random(evaluation.n, SHOWN)
    kind = f"{len(chosen)} drawn at random"
    figure = gallery_figure(_tiles(evaluation, images, chosen), title=f"{title}: {kind}")
    path = save_figure(figure, folder / "samples.png", _PHOTO_DPI)
    marks = "✓ right; ✗ and a thick frame: wrong, with the true class. The percentage is the network's own."
    pictures = [Picture("Samples", f"{title}; {kind}. {marks}", path, "samples")]
    predicted = evaluation.decoded.argmax(1)
    wrong = np.flatnonzero(predicted != evaluation.targets)
    if len(wrong):
        order = np.argsort(-evaluation.decoded[wrong, predicted[wrong]], kind="stable")
        chosen = wrong[order[:SHOWN]]
        kind = f"the {len(chosen)} of {len(wrong):,} mistakes made with the most confidence"
        figure = gallery_figure(_tiles(evaluation, images, chosen), title=f"{title}: most confident mistakes")
        path = save_figure(figure, folder / "mistakes.png", _PHOTO_DPI)
        caption = f"{title}; {kind}: look here for wrong labels."
        pictures.append(Picture("Mistakes", caption, path, "samples"))
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


def _tiles(evaluation: Evaluation, images: Images, chosen: NDArray[np.int64]) -> list[Tile]:
    tiles = []
    pixels = np.asarray(images[chosen])
    for place, image in zip(chosen, pixels, strict=True):
        said, true = int(evaluation.decoded[place].argmax()), int(evaluation.targets[place])
        probability = float(evaluation.decoded[place, said])
        names = evaluation.classes
        tiles.append(Tile(image, names[said], probability, names[true], said == true))
    return tiles


def _at_random(n: int, count: int) -> NDArray[np.int64]:
    """The same places in every run, in rising order."""
    return np.sort(np.random.default_rng(0).choice(n, min(n, count), replace=False))
