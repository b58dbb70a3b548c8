"""Captions in pictures, tables and sections of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.captions import LETTERS, captions_in
from striate.tasks.caption.assess import caption_words, cider_rows
from striate.tasks.caption.metrics import CaptionMetrics
from striate.tasks.evaluation import Evaluation
from striate.tasks.show import Images, Row, ranked_pictures
from striate.visualize.canvas import main_title, new_figure, show_image
from striate.visualize.page_parts import Picture, Section, Table
from striate.visualize.word_pictures import drawn_words
from striate.wording import percent, several

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TRUE = 3
"""Largest number of true captions under a picture."""


def picture_of(image: NDArray[np.uint8], shown: NDArray[Any], truth: NDArray[Any] | None) -> NDArray[np.uint8]:
    """The image (C, H, W) with the attention of each word of a predicted caption, or with the true captions under
    it."""
    if shown.dtype == np.int8:
        return drawn_words(image, (), np.empty((0, 1), np.float32), _true_lines(shown))
    words = caption_words(shown[None])[0]
    predicted = f"predicted: {' '.join(words)} ({percent(probability(shown), 0)})"
    lines = [] if truth is None else _true_lines(truth)
    return drawn_words(image, words, shown[: len(words), LETTERS + 1 :], [predicted, *lines])


def probability(decoded: NDArray[Any]) -> float:
    """The network's probability of a predicted caption: the product over its words and its end."""
    return float(np.exp(np.asarray(decoded, np.float64)[:, LETTERS].sum()))


def _true_lines(target: NDArray[Any]) -> list[str]:
    captions = [" ".join(words) for words in captions_in(target)]
    return [f"true: {text}" for text in captions[:_TRUE]]


def caption_pictures(
    folder: Path, evaluation: Evaluation, images: Images | None, names: Sequence[str]
) -> tuple[Picture, ...]:
    """`captions.png` with random samples, then samples with the lowest CIDEr-D, around its median, and with the
    highest, each with the attention of its words."""
    if images is None:
        return ()
    order = np.argsort(cider_rows(evaluation.decoded, evaluation.targets), kind="stable")

    def draw(chosen: NDArray[np.int64], title: str) -> Figure:
        rows = zip(np.asarray(images[chosen]), chosen, strict=True)
        drawn = [picture_of(image, evaluation.decoded[k], evaluation.targets[k]) for image, k in rows]
        tall = [9.0 * part.shape[0] / part.shape[1] for part in drawn]
        figure = new_figure(9.0, sum(tall) + 0.5)
        places = figure.subplots(len(drawn), 1, squeeze=False, height_ratios=tall).flat
        for axes, part in zip(places, drawn, strict=True):
            show_image(axes, np.moveaxis(part, -1, 0))
        main_title(figure, title)
        return figure

    choices = ("images with the lowest CIDEr-D", "images around the median CIDEr-D", "images with the highest CIDEr-D")
    note = ". Bright: where the attention of the word is."
    return ranked_pictures(
        folder, evaluation, order, draw, choices=choices, note=note, names=names, at_random="captions.png"
    )


def caption_sections(figures: CaptionMetrics, of: str) -> tuple[Section, ...]:
    """The captions with the lowest CIDEr-D."""
    rows: tuple[Row, ...] = tuple((one.path, one.predicted, one.true, f"{one.cider:.3f}") for one in figures.worst)
    table = Table(f"Images with the lowest CIDEr-D of the {of}", ("image", "predicted", "true", "CIDEr-D"), rows)
    captions = several(figures.different, "caption", "different captions")
    sentence = f"The network predicts {captions} for {several(figures.n, 'image')}."
    return (Section("Predicted captions", (sentence,), (table,)),)
