"""Rows of a manifest in which the values of two targets are exchanged."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray

from striate.data.annotations.target_columns import Column, columns_of, parts_of
from striate.data.audit.evidence import DataEvidence, leaving_out
from striate.data.audit.sample_finding import SampleFinding, each_left_out, severity_of, some
from striate.data.listing import Listing
from striate.records import Finding
from striate.wording import several

FAR, NEAR = 4.0, 3.0
"""Robust standard deviations from the median: a number beyond `FAR` is unusual in its own column; within `NEAR` it is
usual in the other one."""
OFTEN = 4
"""A class belongs to the other column if it occurs there so many times as often."""
_FEWEST = 20


def find_exchanged_targets(evidence: DataEvidence) -> SampleFinding | None:
    """`data.targets-exchanged`: rows that fit both columns of a pair only if these are exchanged."""
    listing, found = evidence.listing, exchanged_rows(evidence.listing)
    ids = sorted({number for rows in found.values() for number in rows} & set(evidence.splits))
    if not ids:
        return None
    rows = {f"{one} and {other}": some([listing.paths[k] for k in own]) for (one, other), own in found.items()}
    pairs = "; ".join(f"{names} in {paths}" for names, paths in rows.items())
    finding = Finding(
        code="data.targets-exchanged",
        severity=severity_of(len(ids), len(evidence.splits)),
        where=listing.source,
        measured=f"{several(len(ids), 'row fits', 'rows fit')} if two columns are exchanged: {pairs}",
        threshold="0 rows; an error from 1 % of the samples",
        why="Each value is unusual in its own column and typical of the other: the network learns wrong targets.",
        remedy=leaving_out(evidence, "Exchange the two fields in these rows.", "leaves them out"),
    )
    return each_left_out(finding, ids, "exchanged")


def exchanged_rows(listing: Listing) -> dict[tuple[str, str], list[int]]:
    """The samples whose values fit only when exchanged, by pairs of targets of one kind; pairs without any are left
    out."""
    if listing.annotation != "columns" or len(listing) < _FEWEST:
        return {}
    assert listing.targets is not None
    columns = columns_of(listing.target_names, listing.classes)
    parts = parts_of(torch.from_numpy(listing.targets), columns)
    found = {}
    for (one, (known, first)), (other, (seen, second)) in combinations(zip(columns, parts, strict=True), 2):
        both = np.flatnonzero((known & seen).numpy())
        if one.kind != other.kind or one.kind == "labels" or not len(both):
            continue
        values = first.numpy()[both], second.numpy()[both]
        fits = _numbers(*values) if one.kind == "number" else _classes((one, other), *values)
        if fits.any():
            found[one.name, other.name] = both[fits].tolist()
    return found


def _numbers(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
    """(N,) whether a pair of numbers is unusual as it is, and usual when exchanged."""

    def distance(values: NDArray[np.float32], among: NDArray[np.float32]) -> NDArray[np.float64]:
        low, middle, high = np.quantile(among, [0.25, 0.5, 0.75])
        # The quartiles of a normal distribution are 1.349 standard deviations apart.
        deviation = (high - low) / 1.349 or float(among.std()) or 1.0
        return np.asarray(np.abs(values[:, 0].astype(np.float64) - middle) / deviation)

    own = np.minimum(distance(first, first), distance(second, second))
    crossed = np.maximum(distance(first, second), distance(second, first))
    return np.asarray((own > FAR) & (crossed < NEAR))


def _classes(columns: tuple[Column, Column], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether both classes of a pair are far commoner in the other column."""
    names = [[column.classes[k] for k in own] for column, own in zip(columns, (first, second), strict=True)]
    here, there = (Counter(own) for own in names)
    return np.array(
        [there[a] > OFTEN * here[a] and here[b] > OFTEN * there[b] for a, b in zip(*names, strict=True)], np.bool_
    )
