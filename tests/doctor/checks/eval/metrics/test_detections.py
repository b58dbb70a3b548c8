"""Functions that detections are judged by, asked for what is known beforehand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, perceptron, read
from striate.doctor.checks.eval.metrics.metric_functions import wrong_metrics


def measured(text: str, call: str) -> list[str]:
    names: dict[str, Any] = {"np": np, "torch": torch}
    exec(text, names)
    text += f"\nfor x, y in loader:\n    {call}\n"
    found = read(text, SimpleNamespace(run=wrong_metrics), perceptron(), digits(), names=names)
    return [one.measured for one in found]


PAIRS = """
def box_iou(a, b):
    low, high = torch.max(a[:, None, :2], b[None, :, :2]), torch.min(a[:, None, 2:], b[None, :, 2:])
    both = INTERSECTION
    area = [(part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1]) for part in (a, b)]
    return both / (area[0][:, None] + area[1] - both + 1e-9)
"""

CENTERED = """
def bbox_iou(a, b):
    low, high = np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2), np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2)
    both = INTERSECTION
    return both / (a[2] * a[3] + b[2] * b[3] - both)
"""


@pytest.mark.parametrize(
    ("text", "intersection", "wrong"),
    [
        (PAIRS, "(high - low).prod(-1).clamp(min=0)", True),
        (PAIRS, "(high - low).clamp(min=0).prod(-1)", False),
        (CENTERED, "max((high - low).prod(), 0)", True),
        (CENTERED, "(high - low).clip(0).prod()", False),
        (CENTERED, "np.where((high > low).all(), (high - low).prod(), -1.0)", False),
    ],
)
def test_boxes_that_are_apart_in_both_directions_do_not_overlap(text: str, intersection: str, wrong: bool) -> None:
    said = measured(text.replace("INTERSECTION", intersection), "box_iou(x, x), bbox_iou(x, x)")
    assert ["apart in both directions" in one for one in said] == [True] * wrong


@pytest.mark.parametrize(
    ("sides", "call", "wrong"),
    [
        ("centers", "box_iou(model(x), y)", True),
        ("corners", "box_iou(model(x), y)", False),
        ("centers", "box_iou(corners(model(x)), corners(y))", False),
        ("centers", "y = corners(y); box_iou(model(x), y)", False),
    ],
)
def test_boxes_are_in_the_form_that_their_overlap_expects(sides: str, call: str, wrong: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    centers, half = (
        0.3 + 0.4 * torch.rand(60, 2, generator=generator),
        0.05 + 0.1 * torch.rand(60, 2, generator=generator),
    )
    boxes = torch.cat([centers, 2 * half] if sides == "centers" else [centers - half, centers + half], 1)
    data = DataLoader(TensorDataset(torch.randn(60, 8, generator=generator), boxes), 20)
    text = PAIRS.replace("INTERSECTION", "(high - low).clamp(min=0).prod(-1)")
    names: dict[str, Any] = {"np": np, "torch": torch}
    exec(text, names)
    text += f"\nfor x, y in loader:\n    {call}\n"
    check, model = SimpleNamespace(run=wrong_metrics), nn.Linear(8, 4)
    said = read(text, check, model, data, val=data, names=names, loss=nn.MSELoss())  # type: ignore[arg-type]
    assert ["right for boxes (left, top" in one.measured for one in said] == [True] * wrong


PRECISION = """
def average_precision(hits, SCORES, count):
    hits = hits[np.argsort(ORDER)]
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / count)
"""


@pytest.mark.parametrize(
    ("scores", "order", "wrong"),
    [
        ("scores", "scores", True),
        ("scores", "-scores", False),
        ("confidence", "confidence", True),
        ("distances", "distances", False),
        ("pred_distances", "pred_distances", False),
    ],
)
def test_the_highest_score_comes_first_in_a_ranking(scores: str, order: str, wrong: bool) -> None:
    text = PRECISION.replace("SCORES", scores).replace("ORDER", order)
    said = measured(text, "average_precision(y, x, 1)")
    assert ["and 1 if they have the lowest" in one for one in said] == [True] * wrong


LISTED = """
def compute_ap(detections, count):
    ranked, right, total = sorted(detections, reverse=REVERSE), 0, 0.0
    for place, (score, hit) in enumerate(ranked, 1):
        right += hit
        total += hit * right / place
    return total / count
"""


@pytest.mark.parametrize("reverse", [False, True])
def test_detections_may_be_pairs_with_their_scores(reverse: bool) -> None:
    said = measured(LISTED.replace("REVERSE", str(reverse)), "compute_ap(y, 1)")
    assert len(said) == (not reverse)


def test_curves_of_recall_and_precision_are_no_scores() -> None:
    text = "def voc_ap(recall, precision):\n    return float(np.trapezoid(precision, recall))\n"
    assert not measured(text, "voc_ap(x, y)")
