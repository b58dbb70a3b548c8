"""How well embeddings separate classes: by the nearest neighbors of each sample, and by all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.statistics.estimate import Estimate
from striate.statistics.intervals import FEW, drawn_units, resamples_for, varying_interval
from striate.tasks.headline import Rows

QUERIES = 5_000
"""Largest number of samples, evenly spaced, whose neighbors are searched among all samples."""
PAIRED = 8_000
"""Largest number of samples, evenly spaced, that pairs are formed from."""
_NEAR = 5
_ROWS = 256
_BINS = 20_000
"""Bins of cosines, from the lowest to the highest: areas and thresholds are exact to a ten-thousandth of the range."""
_COARSE = 200
"""For intervals, the edges of bins are about this number of quantiles of each kind of pairs."""

Vectors = NDArray[np.float32]
SimilarPair = tuple[int, int, float]
"""Positions of two samples, and the cosine of their embeddings."""


def evenly_spaced(n: int, most: int) -> NDArray[np.int64]:
    """min(n, most) positions, evenly spaced."""
    count = min(n, most)
    return np.arange(count) * n // max(1, count)


def unit(vectors: Any) -> Vectors:
    """The rows, normalized to length 1; rows of zeros stay zeros."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def neighbor_rows(vectors: Any, targets: Any) -> Rows:
    """(N, 4) what each sample adds: whether its nearest neighbor has its class, whether one of the nearest five has,
    its MAP@R, and 1; all 0 for samples without another of their class, and for those that are no queries (`QUERIES`).

    MAP@R: with R other samples of the class, the mean over the first R neighbors of the precision up to a neighbor of
    the class, 0 for other neighbors (Musgrave et al., "A metric learning reality check", 2020).
    """
    vectors, labels = unit(vectors), np.asarray(targets)
    rows = np.zeros((len(labels), 4))
    numbers, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    del numbers
    others = counts[places] - 1
    queried = evenly_spaced(len(labels), QUERIES)
    queried = queried[others[queried] > 0]
    for start in range(0, len(queried), _ROWS):
        part = queried[start : start + _ROWS]
        near = vectors[part] @ vectors.T
        near[np.arange(len(part)), part] = -np.inf
        most = min(near.shape[1] - 1, max(_NEAR, int(others[part].max())))
        order = np.argsort(-near, axis=1, kind="stable")[:, :most]
        hits = labels[order] == labels[part, None]
        ranks = np.arange(1, most + 1)
        precision = hits.cumsum(1) / ranks * hits * (ranks <= others[part, None])
        rows[part] = np.stack(
            [hits[:, 0], hits[:, :_NEAR].any(1), precision.sum(1) / others[part], np.ones(len(part))], axis=1
        )
    return rows


@dataclass(frozen=True, eq=False)
class Pairs:
    """Histograms of the cosines of pairs of samples: a row a sample, with its pairs, or one row of all pairs. In rows
    of samples, each pair counts for both."""

    same: NDArray[np.float64]
    """(N, B) number of pairs of one class."""
    other: NDArray[np.float64]
    """(N, B) number of pairs of two classes."""
    edges: NDArray[np.float64]
    """(B + 1,) edges of the bins."""


def count_pairs(vectors: Any, targets: Any) -> Pairs:
    """The pairs of at most `PAIRED` samples, in one row, in `_BINS` bins from the lowest cosine to the highest."""
    low, high = 1.0, -1.0
    for near, same, other in _blocks(vectors, targets):
        pairs = near[same | other]  # a single sample has none
        low, high = min(low, float(pairs.min(initial=1.0))), max(high, float(pairs.max(initial=-1.0)))
    edges = np.linspace(low, max(high, low + 1e-9), _BINS + 1)
    kinds = np.zeros((2, 1, _BINS))
    for near, *chosen in _blocks(vectors, targets):
        places = np.clip(((near - low) * (_BINS / (edges[-1] - low))).astype(np.int64), 0, _BINS - 1)
        for kind, which in zip(kinds, chosen, strict=True):
            kind[0] += np.bincount(places[which], minlength=_BINS)
    return Pairs(kinds[0], kinds[1], edges)


def count_pairs_of_each(vectors: Any, targets: Any) -> Pairs:
    """The same with a row for each of the samples, in a few hundred bins, which are narrow where there are many
    pairs."""
    whole = count_pairs(vectors, targets)
    shares = [kind[0].cumsum() / max(1, kind.sum()) for kind in (whole.same, whole.other)]
    inner = np.unique(np.concatenate([np.searchsorted(share, np.linspace(0, 1, _COARSE)) for share in shares]))
    edges = whole.edges[np.unique(np.concatenate([[0], inner[(inner > 0) & (inner < _BINS)], [_BINS]]))]
    bins, start = len(edges) - 1, 0
    kinds = np.zeros((2, len(evenly_spaced(len(np.asarray(targets)), PAIRED)), bins))
    for near, *chosen in _blocks(vectors, targets):
        places = np.clip(np.searchsorted(edges, near, "right") - 1, 0, bins - 1)
        places += np.arange(len(near))[:, None] * bins
        for kind, which in zip(kinds, chosen, strict=True):
            counted = np.bincount(places[which], minlength=len(near) * bins)
            kind[start : start + len(near)] = counted.reshape(len(near), bins)
        start += len(near)
    return Pairs(kinds[0], kinds[1], edges)


def _blocks(vectors: Any, targets: Any) -> Iterator[tuple[Vectors, NDArray[np.bool_], NDArray[np.bool_]]]:
    """For a few samples at a time: their cosines with all samples, and which of these are pairs of one class, and of
    two."""
    labels = np.asarray(targets)
    taken = evenly_spaced(len(labels), PAIRED)
    rows, labels = unit(vectors)[taken], labels[taken]
    for start in range(0, len(labels), _ROWS):
        near = rows[start : start + _ROWS] @ rows.T
        same = labels[start : start + _ROWS, None] == labels[None]
        other = ~same
        same[np.arange(len(near)), np.arange(len(near)) + start] = False
        yield near, same, other


@dataclass(frozen=True)
class Verification:
    """How well the cosine of a pair tells whether both samples have one class. All are NaN where there are no pairs of
    one kind."""

    auc: float
    """Area under the ROC curve."""
    eer: float
    """Equal error rate: the share of wrong predictions at the threshold where it is the same for both kinds of
    pairs."""
    threshold: float
    """The cosine of that threshold."""


def verification(same: NDArray[Any], other: NDArray[Any], edges: NDArray[np.float64]) -> Verification:
    """The verification from counts (B,) of pairs of one class and of two, by cosine; pairs of one bin count as
    equal."""
    total_same, total_other = same.sum(), other.sum()
    if total_same <= 0 or total_other <= 0:
        return Verification(np.nan, np.nan, np.nan)
    missed = np.concatenate([[0], same.cumsum()]) / total_same  # shares below each edge
    kept_out = np.concatenate([[0], other.cumsum()]) / total_other
    auc = float(((kept_out[1:] + kept_out[:-1]) / 2 * np.diff(missed)).sum())
    gap = missed - (1 - kept_out)
    first, last = int(np.searchsorted(gap, 0, "left")), int(np.searchsorted(gap, 0, "right"))
    if last > first:  # both are equal over a range of edges: its middle
        low, high = edges[first], edges[last - 1]
        return Verification(auc, float(missed[first]), float(low + high) / 2)
    share = -gap[first - 1] / (gap[first] - gap[first - 1])
    eer = missed[first - 1] + share * (missed[first] - missed[first - 1])
    return Verification(auc, float(eer), float(edges[first - 1] + share * (edges[first] - edges[first - 1])))


def verify_pairs(vectors: Any, targets: Any) -> Verification:
    """The verification of all pairs."""
    pairs = count_pairs(vectors, targets)
    return verification(pairs.same[0], pairs.other[0], pairs.edges)


def steepness(vectors: Any, targets: Any, threshold: float) -> float:
    """The slope a of 1 / (1 + exp(−a · (cosine − threshold))), the probability that a pair has one class where both
    kinds of pairs are equally frequent, by maximum likelihood (Platt 1999, with a fixed threshold)."""
    from scipy.optimize import minimize_scalar  # takes half a second to load

    pairs = count_pairs(vectors, targets)
    middle = (pairs.edges[1:] + pairs.edges[:-1]) / 2 - threshold
    same, other = (kind[0] / kind[0].sum() for kind in (pairs.same, pairs.other))

    def loss(log_slope: float) -> float:
        scaled = np.exp(log_slope) * middle
        return float(same @ np.logaddexp(0, -scaled) + other @ np.logaddexp(0, scaled))

    return float(np.exp(minimize_scalar(loss, bounds=(-1, 5.5), method="bounded").x))


def verification_estimates(vectors: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, Estimate]:
    """`auc`, `eer` and `threshold` with 95 % intervals by bootstrap over samples, or over `groups`: the weight of a
    pair follows from how often its samples were drawn, to first order (wᵢ + wⱼ − 1)."""
    found = vars(verify_pairs(vectors, targets))
    known = {name: None if np.isnan(value) else value for name, value in found.items()}
    taken = evenly_spaced(len(np.asarray(targets)), PAIRED)
    units = np.unique(drawn_units(groups, len(np.asarray(targets)))[taken], return_inverse=True)[1]
    count = int(units.max()) + 1 if len(units) else 0
    if count < FEW or known["auc"] is None:
        return {name: Estimate(value) for name, value in known.items()}
    pairs, rng, draws = count_pairs_of_each(vectors, targets), np.random.default_rng(0), []
    whole = pairs.same.sum(0) / 2, pairs.other.sum(0) / 2
    for _ in range(min(400, resamples_for(count))):
        drawn = np.bincount(rng.integers(0, count, count), minlength=count)[units].astype(np.float64)
        same = np.maximum(drawn @ pairs.same - whole[0], 0)
        other = np.maximum(drawn @ pairs.other - whole[1], 0)
        draws.append(list(vars(verification(same, other, pairs.edges)).values()))
    spans = [varying_interval(column[~np.isnan(column)]) for column in np.array(draws).T]
    return {name: Estimate(value, span) for (name, value), span in zip(known.items(), spans, strict=True)}


def roc_curve(vectors: Any, targets: Any) -> tuple[tuple[float, float], ...]:
    """At most 200 points of the ROC curve: the share of pairs of two classes, and of one class, above the threshold."""
    pairs = count_pairs(vectors, targets)
    same, other = (kind[0][::-1].cumsum() / max(1, kind.sum()) for kind in (pairs.same, pairs.other))
    steps = np.unique(
        np.concatenate([np.searchsorted(other, np.linspace(0, 1, 100)), np.searchsorted(same, np.linspace(0, 1, 100))])
    )
    steps = steps[steps < len(same)]
    return ((0.0, 0.0), *zip(other[steps].tolist(), same[steps].tolist(), strict=True), (1.0, 1.0))


def hardest_pairs(vectors: Any, targets: Any, count: int) -> tuple[list[SimilarPair], list[SimilarPair]]:
    """The pairs of one class with the lowest cosines, and those of two classes with the highest. Each sample is in at
    most one pair of each kind."""
    labels = np.asarray(targets)
    taken = evenly_spaced(len(labels), PAIRED)
    vectors, labels = unit(vectors)[taken], labels[taken]
    found: tuple[list[SimilarPair], list[SimilarPair]] = ([], [])
    for start in range(0, len(labels), _ROWS):
        near = vectors[start : start + _ROWS] @ vectors.T
        rows = np.arange(len(near))
        later = np.arange(near.shape[1])[None] > rows[:, None] + start
        same = labels[start : start + _ROWS, None] == labels[None]
        for pairs, which, sign in zip(found, (same & later, ~same & later), (-1, 1), strict=True):
            best = np.where(which, sign * near, -np.inf).argmax(1)
            there = which[rows, best]
            columns = ((rows + start)[there], best[there], near[rows, best][there])
            pairs += zip(*(column.tolist() for column in columns), strict=True)
    chosen: tuple[list[SimilarPair], list[SimilarPair]] = ([], [])
    for pairs, kept, sign in zip(found, chosen, (1, -1), strict=True):
        used: set[int] = set()
        for one, other, value in sorted(pairs, key=lambda pair: sign * pair[2]):
            if len(kept) < count and not {one, other} & used:
                used |= {one, other}
                kept.append((int(taken[one]), int(taken[other]), value))
    return chosen
