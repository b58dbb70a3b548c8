"""Runs of frames that splits tear: files whose names follow each other and whose pictures hardly change."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.alike import NEAR
from striate.data.audit.evidence import Evidence, keep_together, leaving
from striate.data.audit.marked import Marked, some
from striate.records import Finding
from striate.wording import several

_LOOSE, _FEW_PAIRS = 0.4, 0.3
"""Largest distance of neighbors in a run, whatever the data; and where there are too few others to compare with."""
_QUANTILE, _DRAWN, _PAIRS, _APART = 0.005, 4000, 100, 10
_LEAST = 5


def find_torn_frames(evidence: Evidence) -> Marked | None:
    """`data.frame-leak`: runs of five or more images, neighbors in the order of their names and nearly alike, that lie
    in two splits.

    Nearly alike: nearer than all but 5 in 1,000 pairs of the same label that stand ten places or more apart, and never
    further than 0.4 (a correlation of 0.92).
    """
    if evidence.listing.read is None or evidence.looks is None:
        return None
    order = sorted((i for i in evidence.readable), key=lambda i: _place(evidence, i))
    if len(order) < _LEAST:
        return None
    points = evidence.looks.descriptions[order]
    labels = np.unique([_label(evidence, i) for i in order], return_inverse=True)[1]
    near = np.linalg.norm(points[1:] - points[:-1], axis=1) <= _limits(points, labels)[labels[1:]]
    near &= (labels[1:] == labels[:-1]) & (points[1:].any(axis=1) & points[:-1].any(axis=1))
    runs = [tuple(order[start:stop]) for start, stop in _stretches(near) if stop - start >= _LEAST]
    torn = [run for run in runs if len({evidence.splits[number] for number in run}) > 1]
    if not torn:
        return None
    named = [f"{evidence.named(run[0])} to {evidence.named(run[-1])} ({len(run)} images)" for run in torn]
    which = "the given splits" if evidence.given else "the splits that striate makes"
    count = sum(map(len, torn))
    finding = Finding(
        "data.frame-leak",
        "error" if count >= 0.1 * len(order) else "warning",
        evidence.listing.source,
        f"{several(len(torn), 'run')} of images with names in a row, nearly alike, in two of {which}: {some(named)}",
        "0 runs; an error from 10% of the images",
        "Frames of one recording are hardly more than copies: such a split measures too well.",
        _remedy(evidence),
    )
    words = {number: evidence.splits[number] for run in torn for number in run}
    return Marked(finding, tuple(torn), words, together=keep_together(evidence, runs))


def _label(evidence: Evidence, number: int) -> str:
    # Masks and numbers say nothing of what belongs together; folders do.
    if evidence.listing.annotation == "class":
        return evidence.listing.labels[number]
    return ""


def _place(evidence: Evidence, number: int) -> tuple[str, list[tuple[int, int | str]]]:
    """By label, then by file name with its numbers as numbers: the folder of a split does not count."""
    parts = re.split(r"(\d+)", PurePosixPath(evidence.named(number)).stem)
    return _label(evidence, number), [(1, int(part)) if part.isdecimal() else (0, part) for part in parts if part]


def _limits(points: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each label the largest distance of neighbors in a run: some things look more alike than others."""
    limits = np.full(int(labels.max()) + 1, _FEW_PAIRS)
    for label in range(len(limits)):
        rows = points[labels == label]
        ends = np.random.default_rng(label).integers(0, len(rows), (_DRAWN, 2))
        ends = np.unique(np.sort(ends[np.abs(ends[:, 0] - ends[:, 1]) >= _APART], axis=1), axis=0)
        distances = np.linalg.norm(rows[ends[:, 0]] - rows[ends[:, 1]], axis=1)
        distances = distances[distances > NEAR]  # a copy elsewhere does not make neighbors less alike
        if len(distances) >= _PAIRS:
            limits[label] = min(_LOOSE, float(np.quantile(distances, _QUANTILE)))
    return limits


def _stretches(near: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """From `near[i]` (i and i + 1 are alike) the runs as half-open intervals."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]]).astype(np.int8)))
    return [(int(start), int(stop) + 1) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _remedy(evidence: Evidence) -> str:
    if evidence.given:
        return "Put whole recordings into one split."
    return f"Write a manifest with a group for each recording.{leaving(evidence)}"
