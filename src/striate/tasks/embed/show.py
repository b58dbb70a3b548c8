"""Embeddings in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.records import Interval
from striate.tasks.embed.assess import HARDEST
from striate.tasks.embed.metrics import EmbeddingMetrics, SamplePair, similarity_text
from striate.tasks.embed.retrieval import evenly_spaced, hardest_pairs
from striate.tasks.evaluation import Evaluation
from striate.tasks.show import CHART_DPI, PHOTO_DPI, Images, Row, plain_cells, share_cells
from striate.visualize.canvas import of_split, save_figure
from striate.visualize.charts import chart
from striate.visualize.cluster_panels import cluster_panel
from striate.visualize.inside.embedding import FEWEST, MOST, Method, embed_features, embedding_figure
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.point_figures import points_figure
from striate.visualize.themed_svg import saved_picture
from striate.wording import formatted, percent

_SHOWN = 4
_CLICKED, _NEIGHBORS = 200, 6
_METHODS: tuple[tuple[Method, str], ...] = (("pca", "First two principal components"), ("tsne", "t-SNE"))


def embedding_pictures(
    folder: Path, evaluation: Evaluation, images: Images | None, names: Sequence[str] = ()
) -> tuple[Picture, ...]:
    """`map.png`, all samples in two dimensions; for images also the hardest pairs, `apart.png` and `alike.png`."""
    title = of_split(evaluation.data, evaluation.split, evaluation.n)
    pictures = _map(folder, evaluation, images, title, names)
    if images is None:
        return pictures
    kinds = (
        ("One class, least similar", "apart", "the pairs of one class with the lowest similarity"),
        (
            "Two classes, most similar",
            "alike",
            "the pairs of two classes with the highest similarity: look for wrong labels",
        ),
    )
    for (name, file, which), pairs in zip(
        kinds, hardest_pairs(evaluation.decoded, evaluation.targets, _SHOWN), strict=True
    ):
        if not pairs:
            continue
        beside = [_beside(np.asarray(images[np.array([one, two])])) for one, two, _ in pairs]
        labels = []
        for *ends, value in pairs:
            classes = dict.fromkeys(evaluation.classes[int(evaluation.targets[k])] for k in ends)
            labels.append(f"{formatted(value, '.2f')}  {' – '.join(classes)}"[:32])
        figure = points_figure(beside, title=f"{title}: {name.lower()}", labels=labels)
        words = f"{title}; {which}. The number is their cosine similarity."
        pictures += (saved_picture(name, words, figure, folder / f"{file}.png", "samples", PHOTO_DPI),)
    return pictures


def _beside(pair: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, 2 W + gap, 3) of two images (2, C, H, W)."""
    planes = np.moveaxis(pair[:, [0, 0, 0]] if pair.shape[1] == 1 else pair, 1, -1)
    gap = np.full((planes.shape[1], max(1, planes.shape[2] // 16), 3), 255, np.uint8)
    return np.concatenate([planes[0], gap, planes[1]], axis=1)


def _map(
    folder: Path, evaluation: Evaluation, images: Images | None, title: str, names: Sequence[str]
) -> tuple[Picture, ...]:
    """PCA and t-SNE of at most `MOST` samples; empty for few samples, or where all embeddings are the same."""
    taken = evenly_spaced(evaluation.n, MOST)
    vectors = np.asarray(evaluation.decoded, np.float32)[taken]
    if len(taken) < FEWEST or not (vectors != vectors[:1]).any():
        return ()
    maps = [embed_features(vectors, "the embedding", method=method) for method in ("pca", "tsne")]
    numbers, labels = np.unique(evaluation.targets[taken], return_inverse=True)
    figure = embedding_figure(
        maps,
        title=title,
        labels=labels,
        classes=[evaluation.classes[int(k)] for k in numbers],
        images=None if images is None else np.asarray(images[taken]),
    )
    path = save_figure(figure, folder / "map.png", CHART_DPI)
    clicked = _clicked(evaluation, images, taken, names)
    shown = min(_CLICKED, len(taken)) if clicked else len(taken)
    caption = (
        f"{title}{f'; {shown:,} of them are shown' if shown < evaluation.n else ''}. Points near each other are similar"
        " to the network; even classes not in training should form groups."
    )
    return (Picture("Map of the embeddings", caption, path, "samples", clicked),)


def _clicked(
    evaluation: Evaluation, images: Images | None, taken: NDArray[np.int64], names: Sequence[str]
) -> tuple[str, ...]:
    """The interactive map of a page, with `_CLICKED` of the samples: a click on a point shows its neighbors. Empty
    where inputs are not pictures."""
    some = taken[evenly_spaced(len(taken), _CLICKED)]
    shown = None if images is None else np.asarray(images[some])
    if shown is None or shown.ndim != 4 or shown.shape[1] not in (1, 3):
        return ()
    vectors = np.asarray(evaluation.decoded, np.float32)[some]
    maps = [(name, embed_features(vectors, "", method=method).points) for method, name in _METHODS]
    near = vectors @ vectors.T
    np.fill_diagonal(near, -np.inf)
    places = np.argsort(-near, axis=1, kind="stable")[:, : min(_NEIGHBORS, len(some) - 1)]
    labels = [evaluation.classes[int(evaluation.targets[k])] for k in some]
    called = [names[k] if len(names) else f"sample {int(evaluation.ids[k])}" for k in some]
    return (cluster_panel(maps, called, labels, shown, (places, np.take_along_axis(near, places, 1))),)


def embedding_sections(figures: EmbeddingMetrics, of: str, chosen: Interval | None = None) -> tuple[Section, ...]:
    """The ROC curve with the threshold, and the hardest pairs. `chosen`: the threshold's interval on validation."""
    ends = ""
    if chosen is not None:
        low, high = map(similarity_text, (chosen.low, chosen.high))
        ends = f" (95 % interval {low} to {high}, bootstrap)"
    missed, taken = map(percent, figures.wrong)
    sentence = (
        f"Two samples with a cosine similarity of at least {similarity_text(figures.threshold)} are predicted to have "
        f"one class. The threshold was chosen on validation{ends}, so that both kinds of mistakes are equally frequent "
        f"there. In the {of}, {missed} of the pairs of one class are below it, and {taken} of the pairs of two classes "
        "above it."
    )
    label = f"ROC curve of the pairs of the {of}: area {percent(figures.metrics['auc'].value)}"
    drawn = chart(lambda axes: _draw_roc(axes, figures), label, 3.6)
    curve = tuple((percent(x), percent(y)) for x, y in figures.curve)
    return (
        Section(
            "Same class, or not",
            (sentence,),
            (
                _pairs_table("Pairs of one class that are least similar", figures.apart),
                _pairs_table("Pairs of two classes that are most similar", figures.alike),
            ),
            (drawn,),
            f"{of}. For all thresholds: the true positive rate (pairs of one class that are found) against the false"
            " positive rate (pairs of two classes taken for one). The point: the threshold in use.",
            (Table("ROC curve", ("false positive rate", "true positive rate"), curve),),
        ),
    )


def _pairs_table(title: str, pairs: Sequence[SamplePair]) -> Table:
    rows = tuple(
        (*pair.paths, " – ".join(dict.fromkeys(pair.classes)), similarity_text(pair.similarity)) for pair in pairs
    )
    return Table(title, ("sample", "other sample", "class", "similarity"), rows[:HARDEST])


def _draw_roc(axes: Any, figures: EmbeddingMetrics) -> None:
    across, up = zip(*figures.curve, strict=True)
    axes.plot(across, up)
    axes.plot([0, 1], [0, 1], linestyle=":", linewidth=1)
    missed, taken = figures.wrong
    if missed is not None and taken is not None:
        axes.plot([taken], [1 - missed], marker="o")
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel="false positive rate of pairs", ylabel="true positive rate of pairs")


def overall_table(figures: EmbeddingMetrics, of: str) -> Table:
    """The metrics over all samples and pairs."""
    names = {
        "recall@1": "recall@1: the nearest has the class",
        "recall@5": "recall@5: one of the nearest five has the class",
        "map@r": "MAP@R",
        "auc": "area under the ROC curve of pairs",
        "eer": "equal error rate of pairs",
        "threshold": "threshold of equal error on these samples",
    }
    rows: tuple[Row, ...] = tuple(
        (names[key], *(plain_cells if key == "threshold" else share_cells)(figure))
        for key, figure in figures.metrics.items()
    )
    return Table(f"Over all samples, {of}", ("metric", "value", "95 % interval"), rows)
