"""The boundary measure is its definition; what is moved by a pixel is forgiven, what is not labeled is not counted."""

from __future__ import annotations

import numpy as np
import pytest

from striate.tasks.segment.borders import border_f1, border_rows, borders_of, tolerance_of

IGNORED = 255


def defined(predicted: np.ndarray, truth: np.ndarray, classes: int, reach: int) -> np.ndarray:
    """(4, K), pixel by pixel."""
    predicted = np.where(truth == IGNORED, IGNORED, predicted)

    def borders(mask: np.ndarray, k: int) -> list[tuple[int, int]]:
        height, width = mask.shape
        found = []
        for r, c in np.argwhere(mask == k):
            beside = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
            inside = [mask[p] for p in beside if 0 <= p[0] < height and 0 <= p[1] < width]
            if any(value not in (k, IGNORED) for value in inside):
                found.append((r, c))
        return found

    rows = np.zeros((4, classes))
    for k in range(classes):
        for place, (own, other) in enumerate(((predicted, truth), (truth, predicted))):
            ours, theirs = borders(own, k), borders(other, k)
            met = sum(any(max(abs(r - y), abs(c - x)) <= reach for y, x in theirs) for r, c in ours)
            rows[2 * place], rows[2 * place + 1] = (
                np.where(np.arange(classes) == k, met, rows[2 * place]),
                np.where(np.arange(classes) == k, len(ours), rows[2 * place + 1]),
            )
    return rows


def test_rows_are_the_definition() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (3, 4, 5)).astype(np.uint8).repeat(3, 1).repeat(3, 2)
    predicted = np.roll(truth, 1, 2)
    predicted[0, :4, :6] = 2
    truth[1, :5] = IGNORED
    found = border_rows(predicted, truth, 3)
    expected = [defined(p, t, 3, tolerance_of(t.shape)) for p, t in zip(predicted, truth, strict=True)]
    assert np.array_equal(found, np.stack(expected))


def test_of_more_classes_than_a_number_has_bits_all_are_counted() -> None:
    truth = np.arange(100, dtype=np.uint8).reshape(1, 10, 10).repeat(2, 1).repeat(2, 2)
    rows = border_rows(truth, truth, 100)
    assert np.array_equal(rows[:, 0], rows[:, 1])
    assert rows[0, 1].min() >= 3
    assert border_f1(rows)[0] == 1


def test_a_shift_within_the_tolerance_is_met_and_one_beyond_is_not() -> None:
    truth = np.zeros((1, 200, 200), np.uint8)
    truth[:, 50:150, 50:150] = 1
    reach = tolerance_of(truth.shape)
    near, far = (border_f1(border_rows(np.roll(truth, by, 1), truth, 2))[0] for by in (reach, 4 * reach))
    assert near == 1
    assert far < 0.7
    nothing = border_rows(np.zeros_like(truth), truth, 2)
    assert border_f1(nothing)[0] == 0
    assert np.isnan(border_f1(border_rows(truth * 0, truth * 0, 2))[0])


def test_beside_what_is_not_labeled_there_is_no_border() -> None:
    mask = np.array([[0, 0, 255, 1, 1]], np.uint8)
    assert not borders_of(mask).any()
    assert borders_of(np.array([[0, 0, 1]], np.uint8)).tolist() == [[False, True, True]]
    assert tolerance_of((360, 480)) == pytest.approx(0.0075 * 600, abs=0.5)
