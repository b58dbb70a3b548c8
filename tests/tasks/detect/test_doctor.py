"""What a detector's predictions say against it, and that healthy ones say nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from striate.tasks.detect.doctor import nothing_found, small_missed
from striate.tasks.evaluation import Evaluation

SIZE = (96, 128)
Rows = np.ndarray


def objects(count: int = 60, seed: int = 0) -> Rows:
    """(N, 4, 6) two objects an image, of two classes and of many sizes, in images of 96 × 128 pixels."""
    random = np.random.default_rng(seed)
    rows = np.zeros((count, 4, 6))
    rows[..., 4] = -1
    side = random.uniform(8, 30, (count, 2, 1))
    corner = random.uniform(0, 1, (count, 2, 2)) * (np.array(SIZE[::-1]) - side)
    rows[:, :2, :4] = np.concatenate([corner, corner + side], 2)
    rows[:, :2, 4] = random.integers(0, 2, (count, 2))
    return rows


def evaluated(found: Rows, truth: Rows, map50: float = 0.0) -> Evaluation:
    decoded = found.copy()
    decoded[..., 5] = np.where(found[..., 4] >= 0, 0.9, 0.0)
    ids = np.arange(len(found))
    return Evaluation("made", "test", "detect", ("disk", "square"), len(found), {"map50": map50}, decoded, truth, ids)


def with_edges(rows: Rows, change: Callable[[Rows], Rows]) -> Rows:
    changed = rows.copy()
    changed[:, :2, :4] = change(rows[:, :2, :4])
    return changed


def _corner_and_center(edges: Rows) -> Rows:
    half = np.tile((edges[..., 2:] - edges[..., :2]) / 2, 2)
    return edges + half


PLANTED: dict[str, Callable[[Rows], Rows]] = {
    "with x and y exchanged": lambda rows: with_edges(rows, lambda edges: edges[..., [1, 0, 3, 2]]),
    "moved left and up by half of their size": lambda rows: with_edges(rows, _corner_and_center),
    "mirrored from left to right": lambda rows: with_edges(
        rows, lambda e: np.stack([128 - e[..., 2], e[..., 1], 128 - e[..., 0], e[..., 3]], -1)
    ),
    "upside down": lambda rows: with_edges(
        rows, lambda e: np.stack([e[..., 0], 96 - e[..., 3], e[..., 2], 96 - e[..., 1]], -1)
    ),
    "replaced by the boxes of the image after it": lambda rows: np.roll(rows, 1, axis=0),
    "found with wrong classes": lambda rows: np.where(np.arange(6) == 4, np.where(rows >= 0, 1 - rows, rows), rows),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_map_of_0_is_told_with_its_cause(what: str) -> None:
    rows = objects()
    [finding] = nothing_found(evaluated(rows, PLANTED[what](rows)), SIZE)
    assert (finding.code, finding.severity) == ("fit.nothing-found", "warning")
    assert what in f"{finding.measured} {finding.why}"


def test_a_healthy_detector_has_nothing_and_one_that_has_not_begun_is_told() -> None:
    rows = objects()
    assert nothing_found(evaluated(rows, rows, 0.9), SIZE) == ()
    nothing = evaluated(rows, rows)
    nothing.decoded[..., 5] = 0.01
    [finding] = nothing_found(nothing, SIZE)
    assert "cannot yet distinguish objects" in finding.why
    nothing = evaluated(with_edges(rows, lambda edges: edges + 300), rows)
    assert nothing_found(nothing, SIZE)[0].why.startswith("The boxes miss the objects")
    nothing.decoded[..., 5] = 0.3
    [finding] = nothing_found(nothing, SIZE)
    assert "the network has hardly learned, or the boxes miss the objects" in finding.why
    assert finding.remedy.startswith("Train for longer: --minutes 10")


def test_small_objects_that_are_missed_are_told() -> None:
    rows = objects()
    assert small_missed(evaluated(rows, rows, 0.9), SIZE, 0.5) == ()
    missed = rows.copy()
    missed[..., 4] = np.where(rows[..., 2] - rows[..., 0] < 15, -1, rows[..., 4])
    [finding] = small_missed(evaluated(missed, rows, 0.6), SIZE, 0.5)
    assert finding.code == "fit.small-missed"
    assert finding.remedy.settings == {"data.size": [128, 192]}
    assert finding.remedy.options == "--data.size 128x192"
