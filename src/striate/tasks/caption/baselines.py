"""Baselines of captions: one caption for all images, and a caption of the most similar training images.

Devlin et al., "Exploring nearest neighbor approaches for image captioning", 2015: the prediction is the caption of the
nearest training images that agrees most with their other captions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack

from striate.data.annotations.captions import caption_rows
from striate.data.dataset import Dataset
from striate.data.store.stored import Inputs
from striate.reference.captions import LONGEST, runs
from striate.tasks.baseline import Fitted, Method, choose_by_validation
from striate.tasks.baseline_features import color_histograms, hog_features, shows_edges
from striate.tasks.caption.assess import cider_rows, true_captions
from striate.tasks.task import Task

_NEIGHBORS = (1, 5, 15, 40, 90)
_MOST = 500
"""Largest number of captions that are compared with one another to find the one for all images."""


def caption_methods(data: Dataset) -> tuple[Method, ...]:
    """The baselines that fit the kind of data."""
    usual = "Predicts the same caption for every image: the one that agrees most with all captions."
    methods = [Method("usual caption", usual, _usual)]
    if shows_edges(data):
        what = (
            "Collects the captions of the most similar training images (edges and colors), and predicts the one that "
            "agrees most with the others (consensus by CIDEr)."
        )
        methods.append(Method("captions of neighbors", what, _neighbors))
    return tuple(methods)


def captions_as_predictions(captions: Sequence[Sequence[str]]) -> torch.Tensor:
    """(N, T, LETTERS + 2) in the form of a network's predictions, with one cell and a probability of 1."""
    longest = max(map(len, captions), default=0) + 1
    rows = np.stack([caption_rows([words], longest) for words in captions]).view(np.uint8).astype(np.float32)
    rows[rows == 255] = 0  # 255 does not occur in UTF-8
    return torch.from_numpy(np.concatenate([rows, np.zeros((*rows.shape[:2], 2), np.float32)], axis=2))


class _Agreement:
    """Training captions as vectors whose dot products are CIDEr: for each n, TF-IDF vectors of n-grams, of length 1."""

    def __init__(self, captions: Sequence[Sequence[Sequence[str]]]) -> None:
        self.texts = [words for own in captions for words in own]
        self.image = np.repeat(np.arange(len(captions)), [len(own) for own in captions])
        parts = []
        for length in range(1, LONGEST + 1):
            counted = [runs(words, length) for words in self.texts]
            images: Counter[tuple[str, ...]] = Counter()
            start = 0
            for own in captions:
                images.update(set().union(*counted[start : start + len(own)]))
                start += len(own)
            parts.append(_rows(counted, images, len(captions)))
        self.vectors = [part.tocsr() for part in parts]

    def best(self, chosen: NDArray[np.int64]) -> list[str]:
        """The caption of these images that agrees most with the captions of the other ones."""
        rows = np.flatnonzero(np.isin(self.image, chosen))
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), _MOST)).astype(np.int64)]
        others = self.image[rows][:, None] != self.image[rows][None]
        agreed = sum(np.asarray((part[rows] @ part[rows].T).todense()) for part in self.vectors)
        if others.any():
            return list(self.texts[rows[int((agreed * others).sum(1).argmax())]])
        return list(self.texts[rows[int(np.asarray(agreed).sum(1).argmax())]])


def _rows(counted: Sequence[Counter[tuple[str, ...]]], images: Counter[tuple[str, ...]], total: int) -> csr_matrix:
    place = {run: number for number, run in enumerate(images)}
    weight = np.array([log(total) - log(images[run]) for run in place])
    made = []
    for counts in counted:
        columns = [place[run] for run in counts]
        values = np.array(list(counts.values()), np.float64) * weight[columns] if columns else np.empty(0)
        length = float(np.sqrt((values**2).sum()))
        made.append(csr_matrix((values / (length or 1.0), ([0] * len(columns), columns)), shape=(1, len(place))))
    return vstack(made)


def _usual(data: Dataset, task: Task, seed: int) -> Fitted:
    del task
    train, test = data.splits["train"], data.splits["test"]
    captions = true_captions(train.targets.cpu())
    some = np.sort(np.random.default_rng(seed).permutation(len(captions))[:_MOST])
    chosen = _Agreement([captions[k] for k in some]).best(np.arange(len(some)))
    return Fitted(captions_as_predictions([chosen] * len(test)), "none", len(some))


def _neighbors(data: Dataset, task: Task, seed: int) -> Fitted:
    del task, seed
    train, val, test = (data.splits[name] for name in ("train", "val", "test"))
    agreement = _Agreement(true_captions(train.targets.cpu()))
    vectors = [np.concatenate([hog_features(part.inputs), _colors(part.inputs)], axis=1) for part in (train, val, test)]
    nearest = [np.argsort(-(own @ vectors[0].T), axis=1, kind="stable")[:, : max(_NEIGHBORS)] for own in vectors[1:]]

    def fit(count: int, positions: NDArray[np.int64]) -> int:
        del positions
        return count

    def score(count: int) -> float:
        predictions = captions_as_predictions([agreement.best(own[:count]) for own in nearest[0]])
        return float(cider_rows(predictions, val.targets.cpu()).mean())

    everything = np.arange(len(train))
    sizes = [count for count in _NEIGHBORS if count <= len(train)]
    _, count = choose_by_validation(sizes, fit, score, everything, everything)
    predictions = captions_as_predictions([agreement.best(own[:count]) for own in nearest[1]])
    return Fitted(predictions, "edges and colors", len(train), {"neighbors": count})


def _colors(inputs: Inputs) -> NDArray[np.float32]:
    """Histograms of color; empty for gray images."""
    return color_histograms(inputs) if inputs.shape[1] == 3 else np.zeros((len(inputs), 1), np.float32)
