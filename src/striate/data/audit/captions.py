"""Captions that say nothing of their image: one for all, or those of another one."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.captions import captions_in
from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked
from striate.data.dataset import Preparation
from striate.data.media.image.pictures import decode_image
from striate.errors import DataError
from striate.records import Finding, Remedy
from striate.wording import percent, several

OFTEN = 0.5
"""A caption that so many of the images have is told; from 90 % on it is an error."""
CHANCE, BETTER, SURE = 0.53, 0.05, 4.0
"""How often the own caption of an image fits it better than that of another: no more than the first is chance; that of
a neighbor in the list has to fit so much better than the own one, and by so many standard errors."""
_FEWEST, _MOST, _SIDE, _WORDS, _FOLDS, _RIDGE = 200, 2000, 8, 150, 5, 30.0


def find_captions(evidence: Evidence) -> tuple[Marked, ...]:
    """Everything that is found about the captions of a data set; nothing where it has none."""
    listing = evidence.listing
    if listing.annotation != "caption" or listing.targets is None or not evidence.splits:
        return ()
    captions = {number: captions_in(listing.targets[number]) for number in evidence.readable}
    if (same := _one_for_all(evidence, captions)) is not None:
        return (same,)
    elsewhere = _elsewhere(evidence, captions)
    return () if elsewhere is None else (elsewhere,)


def _one_for_all(evidence: Evidence, captions: dict[int, list[list[str]]]) -> Marked | None:
    """`data.one-caption`."""
    counts = Counter(text for own in captions.values() for text in {" ".join(words) for words in own})
    text, count = counts.most_common(1)[0]
    if count < OFTEN * len(captions) or len(captions) < 2:
        return None
    return Marked(
        Finding(
            code="data.one-caption",
            severity="error" if count >= 0.9 * len(captions) else "warning",
            where=evidence.listing.source,
            measured=f"{count:,} of {several(len(captions), 'image')} have the caption {text[:60]!r}",
            threshold=f"{percent(OFTEN)} of the images",
            why="The network learns to predict this caption for every image.",
            remedy=Remedy("Write captions that describe each image.", advice="correct the column caption"),
        )
    )


def _elsewhere(evidence: Evidence, captions: dict[int, list[list[str]]]) -> Marked | None:
    """`data.captions-elsewhere`: captions that fit the images of their rows no better than those of other images. A
    linear model learns from four fifths of the images, seen at 8 × 8 pixels, which words are said of them, and is asked
    of the others whether their own captions fit better than others."""
    ids = list(islice(captions, _MOST))
    seen = _small(evidence, ids) if len(ids) >= _FEWEST and evidence.looks is not None else None
    if seen is None:
        return None
    said = _words([captions[number] for number in ids])
    own = _fits(seen, said)
    moved = {name: _fits(seen, np.roll(said, step, axis=0)) for name, step in (("before", 1), ("after", -1))}
    name, best = max(moved.items(), key=lambda pair: pair[1])
    error = 0.29 / len(ids) ** 0.5  # of a mean of ranks, which are even from 0 to 1 by chance
    if best > own + BETTER and best > 0.5 + SURE * error:
        what = f"the captions in the row {name} fit better in {percent(best)} of the comparisons"
        other = "after" if name == "before" else "before"
        why = f"Each image has the captions of the image {other} it: the rows are shifted."
    elif own <= CHANCE and own < 0.5 + 2 * error:
        what = "this is at chance"
        why = "The captions seem to belong to other images. The check sees only 8 × 8 pixels: it is also at chance if "
        why += "the captions describe only finer details."
    else:
        return None
    return Marked(
        Finding(
            code="data.captions-elsewhere",
            severity="error" if best > own + BETTER else "warning",
            where=evidence.listing.source,
            measured=f"the captions of an image fit it better than the captions of another image in {percent(own)} of "
            f"the comparisons; {what}",
            threshold=f"more than {percent(CHANCE)}",
            why=why,
            remedy=Remedy(
                "Look at some images with their captions.", advice="compare the paths and captions with their source"
            ),
        )
    )


def _small(evidence: Evidence, ids: list[int]) -> NDArray[np.float64] | None:
    """(N, F) colors at 8 × 8 pixels, with their squares; None where images cannot be read as such."""
    listing = evidence.listing
    if listing.read is None:
        return None
    shape = (3, _SIDE, _SIDE)
    preparation = Preparation("image", shape, "stretch", evidence.config.max_pixels, reduced=True)
    try:
        pixels = [decode_image(listing.read(number), listing.paths[number], preparation) for number in ids]
    except DataError:
        return None
    values = np.stack(pixels).reshape(len(ids), -1) / 127.5 - 1
    return np.concatenate([values, values**2], axis=1)


def _words(captions: list[list[list[str]]]) -> NDArray[np.float64]:
    """(N, K) which of the commonest words are said of each image, by how rare they are."""
    sets = [{word for words in own for word in words} for own in captions]
    counts = Counter(word for own in sets for word in own)
    usual = [word for word, count in counts.most_common(_WORDS) if count < len(sets)]
    weight = np.array([np.log(len(sets) / counts[word]) for word in usual])
    return np.asarray(np.array([[word in own for word in usual] for own in sets], np.float64) * weight)


def _fits(seen: NDArray[np.float64], said: NDArray[np.float64]) -> float:
    """How often the words of an image are nearer to those that are expected of it than the words of another."""
    folds, ranks = np.random.default_rng(0).permutation(len(seen)) % _FOLDS, []
    for fold in range(_FOLDS):
        train, test = folds != fold, folds == fold
        mean, std, middle = seen[train].mean(0), seen[train].std(0) + 1e-6, said[train].mean(0)
        x, y = (seen[train] - mean) / std, said[train] - middle
        weights = np.linalg.solve(x.T @ x + _RIDGE * len(x) / 10 * np.eye(x.shape[1]), x.T @ y)
        expected, true = (seen[test] - mean) / std @ weights, said[test] - middle
        lengths = np.linalg.norm(true, axis=1) + 1e-9
        similar = expected @ (true / lengths[:, None]).T
        others = len(similar) - 1
        better = (similar < similar.diagonal()[:, None]).sum(1) + 0.5 * (
            (similar == similar.diagonal()[:, None]).sum(1) - 1
        )
        ranks += (better / max(others, 1)).tolist()
    return float(np.mean(ranks))
