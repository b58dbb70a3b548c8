"""Captions that do not describe their image: one caption for all images, or captions of other images."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.captions import captions_in
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding
from striate.data.dataset import Preparation
from striate.data.media.image.pictures import decode_image
from striate.errors import DataError
from striate.records import Finding, Remedy
from striate.wording import percent, several_of

OFTEN = 0.5
"""A caption that at least this share of the images has is reported; from 90 % on it is an error."""
CHANCE, BETTER, SURE = 0.53, 0.05, 4.0
"""Shares of comparisons in which a caption fits an image better than another caption. `CHANCE`: the own captions are at
chance up to this. `BETTER`, `SURE`: the captions of the neighbor in the list must exceed the own ones by so much, and
chance by so many standard errors."""
_FEWEST, _MOST, _SIDE, _WORDS, _FOLDS, _RIDGE = 200, 2000, 8, 150, 5, 30.0


def find_captions(evidence: DataEvidence) -> tuple[SampleFinding, ...]:
    """Findings about the captions of a data set; none where it has no captions."""
    listing = evidence.listing
    if listing.annotation != "caption" or listing.targets is None or not evidence.splits:
        return ()
    captions = {number: captions_in(listing.targets[number]) for number in evidence.readable}
    if (same := _one_for_all(evidence, captions)) is not None:
        return (same,)
    shifted = _shifted_captions(evidence, captions)
    return () if shifted is None else (shifted,)


def _one_for_all(evidence: DataEvidence, captions: dict[int, list[list[str]]]) -> SampleFinding | None:
    """`data.one-caption`."""
    counts = Counter(text for own in captions.values() for text in {" ".join(words) for words in own})
    text, count = counts.most_common(1)[0]
    if count < OFTEN * len(captions) or len(captions) < 2:
        return None
    return SampleFinding(
        Finding(
            code="data.one-caption",
            severity="error" if count >= 0.9 * len(captions) else "warning",
            where=evidence.listing.source,
            measured=f"{several_of(count, len(captions), 'image', 'have')} the caption {text[:60]!r}",
            threshold=f"{percent(OFTEN)} of the images",
            why="The network learns to predict this caption for every image.",
            remedy=Remedy("Write captions that describe each image.", advice="correct the column caption"),
        )
    )


def _shifted_captions(evidence: DataEvidence, captions: dict[int, list[list[str]]]) -> SampleFinding | None:
    """`data.captions-elsewhere`: captions that fit the images of their rows no better than captions of other images.

    A linear model learns from 8 × 8 pixels of four fifths of the images which words their captions have. For the other
    images, its predictions are compared with their own captions and with other captions."""
    ids = list(islice(captions, _MOST))
    pixels = _small(evidence, ids) if len(ids) >= _FEWEST and evidence.image_statistics is not None else None
    if pixels is None:
        return None
    words = _word_vectors([captions[number] for number in ids])
    own = _fits(pixels, words)
    moved = {name: _fits(pixels, np.roll(words, step, axis=0)) for name, step in (("before", 1), ("after", -1))}
    name, best = max(moved.items(), key=lambda pair: pair[1])
    error = 0.29 / len(ids) ** 0.5  # of a mean of ranks, which by chance are uniform from 0 to 1
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
    return SampleFinding(
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


def _small(evidence: DataEvidence, ids: list[int]) -> NDArray[np.float64] | None:
    """(N, F) colors on 8 × 8 pixels, and their squares; None where the images cannot be decoded."""
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


def _word_vectors(captions: list[list[list[str]]]) -> NDArray[np.float64]:
    """(N, K) which of the K commonest words the captions of an image have; rare words have large weights."""
    sets = [{word for words in own for word in words} for own in captions]
    counts = Counter(word for own in sets for word in own)
    usual = [word for word, count in counts.most_common(_WORDS) if count < len(sets)]
    weight = np.array([np.log(len(sets) / counts[word]) for word in usual])
    return np.asarray(np.array([[word in own for word in usual] for own in sets], np.float64) * weight)


def _fits(pixels: NDArray[np.float64], words: NDArray[np.float64]) -> float:
    """The share of comparisons in which the words that are predicted from an image are nearer to its own `words` than
    to those of another image."""
    folds, ranks = np.random.default_rng(0).permutation(len(pixels)) % _FOLDS, []
    for fold in range(_FOLDS):
        train, test = folds != fold, folds == fold
        mean, std, middle = pixels[train].mean(0), pixels[train].std(0) + 1e-6, words[train].mean(0)
        x, y = (pixels[train] - mean) / std, words[train] - middle
        weights = np.linalg.solve(x.T @ x + _RIDGE * len(x) / 10 * np.eye(x.shape[1]), x.T @ y)
        expected, true = (pixels[test] - mean) / std @ weights, words[test] - middle
        lengths = np.linalg.norm(true, axis=1) + 1e-9
        similar = expected @ (true / lengths[:, None]).T
        others = len(similar) - 1
        better = (similar < similar.diagonal()[:, None]).sum(1) + 0.5 * (
            (similar == similar.diagonal()[:, None]).sum(1) - 1
        )
        ranks += (better / max(others, 1)).tolist()
    return float(np.mean(ranks))
