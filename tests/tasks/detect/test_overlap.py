"""Overlaps and suppression agree with their NumPy definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from striate import reference
from striate.tasks.detect.overlap import generalized_iou, nms_mask, pairwise_iou


def _boxes(random: np.random.Generator, count: int, side: float = 20.0) -> np.ndarray:
    first = random.random((count, 2)) * side
    return np.concatenate([first, first + 1 + random.random((count, 2)) * side / 2], 1)


def test_overlaps_are_those_of_the_definition() -> None:
    random = np.random.default_rng(0)
    a, b = _boxes(random, 12), _boxes(random, 12)
    assert pairwise_iou(torch.tensor(a), torch.tensor(b)).numpy() == pytest.approx(reference.box_iou(a, b))
    found = generalized_iou(torch.tensor(a), torch.tensor(b)).numpy()
    assert found == pytest.approx(reference.generalized_iou(a, b))
    assert reference.generalized_iou([[0, 0, 1, 1]], [[2, 0, 3, 1]])[0] == pytest.approx(-1 / 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0.3, 0.5, 0.7]))
def test_suppression_is_greedy(seed: int, count: int, threshold: float) -> None:
    random = np.random.default_rng(seed)
    boxes, classes = _boxes(random, count), random.integers(0, 3, count)
    scores = np.sort(np.round(random.random(count), 2))[::-1].copy()
    kept = nms_mask(torch.tensor(boxes)[None], torch.tensor(classes)[None], threshold)[0]
    expected = reference.non_maximum_suppression(boxes, scores, classes, threshold)
    assert torch.nonzero(kept)[:, 0].tolist() == expected.tolist()


def test_a_chain_of_boxes_needs_many_turns() -> None:
    boxes = torch.tensor([[2.0 * k, 0, 2.0 * k + 6, 6] for k in range(40)])[None]
    kept = nms_mask(boxes, torch.zeros(1, 40), 0.4)[0]
    assert kept.tolist() == [k % 2 == 0 for k in range(40)]
