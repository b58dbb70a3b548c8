"""How well embeddings tell classes apart: by the nearest neighbors of each sample, and by all pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.statistics.estimate import Estimate
from striate.statistics.intervals import FEW, drawn_units, percentile_interval, resamples_for
from striate.tasks.headline import Rows

QUERIES = 5_000
"""So many samples at most, evenly spread, are asked for their neighbors among all samples."""
PAIRED = 8_000
"""The pairs are those of so many samples at most, evenly spread."""
_NEAR = 5
_ROWS = 256
_BINS = 20_000
"""Of cosines, from the lowest to the highest: areas and thresholds are exact to a ten thousandth of that."""
_COARSE = 200
"""For intervals the bins have about so many of the quantiles of either kind of pairs between them."""

Vectors = NDArray[np.float32]
SimilarPair = tuple[int, int, float]
"""Two positions, and the cosine."""


def spread(n: int, most: int) -> NDArray[np.int64]:
    """min(n, most) positions, evenly spread."""
    count = min(n, most)
    return np.arange(count) * n // max(1, count)


def unit(vectors: Any) -> Vectors:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), np.float32)


def neighbor_rows(vectors: Any, targets: Any) -> Rows:
    """(N, 4) what each sample adds: whether its nearest neighbor is of its class, whether one of the nearest five is,
    its MAP@R, and 1; all 0 for a sample without another of its class, and for those that are not asked (`QUERIES`).

    MAP@R: the mean over the first R neighbors, R being how many others are of the class, of the precision so far where
    the neighbor is of the class, else 0 (Musgrave et al., "A metric learning reality check", 2020).
    """
    vectors, labels = unit(vectors), np.asarray(targets)
    rows = np.zeros((len(labels), 4))
    numbers, places, counts = np.unique(labels, return_inverse=True, return_counts=True)
    del numbers
    others = counts[places] - 1
    asked = spread(len(labels), QUERIES)
    asked = asked[others[asked] > 0]
    for start in range(0, len(asked), _ROWS):
        part = asked[start : start + _ROWS]
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
    """The pairs of `PAIRED` samples at most, in one row, in `_BINS` bins from the lowest cosine to the highest."""
    low, high = 1.0, -1.0
    for near, same, other in _blocks(vectors, targets):
        pairs = near[same | other]  # of a single sample there are none
        low, high = min(low, float(pairs.min(initial=1.0))), max(high, float(pairs.max(initial=-1.0)))
    edges = np.linspace(low, max(high, low + 1e-9), _BINS + 1)
    kinds = np.zeros((2, 1, _BINS))
    for near, *chosen in _blocks(vectors, targets):
        places = np.clip(((near - low) * (_BINS / (edges[-1] - low))).astype(np.int64), 0, _BINS - 1)
        for kind, which in zip(kinds, chosen, strict=True):
            kind[0] += np.bincount(places[which], minlength=_BINS)
    return Pairs(kinds[0], kinds[1], edges)


def count_pairs_of_each(vectors: Any, targets: Any) -> Pairs:
    """The same with a row for each of the samples, in a few hundred bins that are fine where there are many pairs."""
    whole = count_pairs(vectors, targets)
    shares = [kind[0].cumsum() / max(1, kind.sum()) for kind in (whole.same, whole.other)]
    inner = np.unique(np.concatenate([np.searchsorted(share, np.linspace(0, 1, _COARSE)) for share in shares]))
    edges = whole.edges[np.unique(np.concatenate([[0], inner[(inner > 0) & (inner < _BINS)], [_BINS]]))]
    bins, start = len(edges) - 1, 0
    kinds = np.zeros((2, len(spread(len(np.asarray(targets)), PAIRED)), bins))
    for near, *chosen in _blocks(vectors, targets):
        places = np.clip(np.searchsorted(edges, near, "right") - 1, 0, bins - 1)
        places += np.arange(len(near))[:, None] * bins
        for kind, which in zip(kinds, chosen, strict=True):
            counted = np.bincount(places[which], minlength=len(near) * bins)
            kind[start : start + len(near)] = counted.reshape(len(near), bins)
        start += len(near)
    return Pairs(kinds[0], kinds[1], edges)


def _blocks(vectors: Any, targets: Any) -> Iterator[tuple[Vectors, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Of some samples at a time their cosines with all, and which of these are pairs of one class, and of two."""
    labels = np.asarray(targets)
    taken = spread(len(labels), PAIRED)
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
    """From counts (B,) of pairs of one class and of two, by cosine; pairs of one bin count as equal."""
    total_same, total_other = same.sum(), other.sum()
    if total_same <= 0 or total_other <= 0:
        return Verification(np.nan, np.nan, np.nan)
    missed = np.concatenate([[0], same.cumsum()]) / total_same  # shares below each edge
    kept_out = np.concatenate([[0], other.cumsum()]) / total_other
    auc = float(((kept_out[1:] + kept_out[:-1]) / 2 * np.diff(missed)).sum())
    gap = missed - (1 - kept_out)
    first, last = int(np.searchsorted(gap, 0, "left")), int(np.searchsorted(gap, 0, "right"))
    if last > first:  # a stretch of edges at which both are equal: its middle
        low, high = edges[first], edges[last - 1]
        return Verification(auc, float(missed[first]), float(low + high) / 2)
    share = -gap[first - 1] / (gap[first] - gap[first - 1])
    eer = missed[first - 1] + share * (missed[first] - missed[first - 1])
    return Verification(auc, float(eer), float(edges[first - 1] + share * (edges[first] - edges[first - 1])))


def verify_pairs(vectors: Any, targets: Any) -> Verification:
    """Of all pairs."""
    pairs = count_pairs(vectors, targets)
    return verification(pairs.same[0], pairs.other[0], pairs.edges)


def steepness(vectors: Any, targets: Any, threshold: float) -> float:
    """The `a` of 1 / (1 + exp(−a · (cosine − threshold))), how probable it is that a pair is of one class, both kinds
    of pairs being as frequent: the most likely one (Platt 1999, with the threshold kept)."""
    from scipy.optimize import minimize_scalar  # takes half a second to load

    pairs = count_pairs(vectors, targets)
    middle = (pairs.edges[1:] + pairs.edges[:-1]) / 2 - threshold
    same, other = (kind[0] / kind[0].sum() for kind in (pairs.same, pairs.other))

    def loss(log_slope: float) -> float:
        scaled = np.exp(log_slope) * middle
        return float(same @ np.logaddexp(0, -scaled) + other @ np.logaddexp(0, scaled))

    return float(np.exp(minimize_scalar(loss, bounds=(-1, 5.5), method="bounded").x))


def verification_estimates(vectors: Any, targets: Any, groups: Sequence[str] = ()) -> dict[str, Estimate]:
    """`auc`, `eer` and `threshold` with 95 % intervals by bootstrap over samples, or over `groups`: a pair weighs as
    often as its samples were drawn, to first order (wᵢ + wⱼ − 1)."""
    found = vars(verify_pairs(vectors, targets))
    known = {name: None if np.isnan(value) else value for name, value in found.items()}
    taken = spread(len(np.asarray(targets)), PAIRED)
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
    spans = [percentile_interval(column[~np.isnan(column)]) for column in np.array(draws).T]
    return {name: Estimate(value, span) for (name, value), span in zip(known.items(), spans, strict=True)}


def roc_curve(vectors: Any, targets: Any) -> tuple[tuple[float, float], ...]:
    """At most 200 points (share of pairs of two classes that are taken for one, share of pairs of one that are)."""
    pairs = count_pairs(vectors, targets)
    same, other = (kind[0][::-1].cumsum() / max(1, kind.sum()) for kind in (pairs.same, pairs.other))
    steps = np.unique(
        np.concatenate([np.searchsorted(other, np.linspace(0, 1, 100)), np.searchsorted(same, np.linspace(0, 1, 100))])
    )
    steps = steps[steps < len(same)]
    return ((0.0, 0.0), *zip(other[steps].tolist(), same[steps].tolist(), strict=True), (1.0, 1.0))


def hardest_pairs(vectors: Any, targets: Any, count: int) -> tuple[list[SimilarPair], list[SimilarPair]]:
    """Of pairs of one class those with the lowest cosine, and of two classes those with the highest: (one, other,
    cosine), each sample in one pair of a kind."""
    labels = np.asarray(targets)
    taken = spread(len(labels), PAIRED)
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
