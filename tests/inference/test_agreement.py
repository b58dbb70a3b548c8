"""Agreement of answers: what is compared for each task, and where the line is."""

from __future__ import annotations

import math

import pytest
import torch

from striate.inference.agreement import compare_predictions
from striate.inference.plan import LEAST_EQUAL, MOST_MOVED, TOLERANCES, PredictionAgreement
from striate.tasks.classify.task import Classify
from striate.tasks.regress.task import Regress
from striate.tasks.segment.task import Segment

CLASSIFY = Classify(("a", "b"))


def logits(count: int, wrong: int = 0) -> torch.Tensor:
    """Sure answers for class a, of which the first `wrong` are for class b."""
    rows = torch.tensor([[9.0, -9.0]]).repeat(count, 1)
    rows[:wrong] = rows[:wrong].flip(1)
    return rows


def test_one_answer_of_two_hundred_may_change_and_not_two() -> None:
    one = compare_predictions(CLASSIFY, logits(200), logits(200, wrong=1))
    assert one.samples == 200
    assert one.equal == pytest.approx(LEAST_EQUAL)
    assert one.fault("bf16") == ""
    assert "only 99.00 % of the predictions" in compare_predictions(CLASSIFY, logits(200), logits(200, wrong=2)).fault(
        "bf16"
    )


def test_equal_classes_with_other_probabilities_are_no_agreement() -> None:
    right = torch.tensor([[0.0, 1.0]]).repeat(50, 1)
    found = compare_predictions(CLASSIFY, right, 2 * right)
    p, q = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-2))
    assert found.equal == 1.0
    assert found.moved == pytest.approx(q - p, rel=1e-5)  # total variation of two classes
    assert "predictions move by" in found.fault("bf16")


def test_numbers_are_compared_in_units_of_their_spread_and_the_worst_column_counts() -> None:
    task = Regress(("mm", "m"), (0.0, 5.0), (1000.0, 1.0))
    right = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    off = right.clone()
    off[:, 1] += 0.05
    found = compare_predictions(task, right, off)
    assert found.equal is None
    assert found.moved == pytest.approx(0.05 / float(right[:, 1].std(correction=0)), rel=1e-3)
    assert found.fault("bf16")
    assert compare_predictions(task, right, right + 0.001).fault("bf16") == ""


def test_a_constant_answer_is_compared_with_its_size() -> None:
    right = torch.full((20, 1), 4.0)
    task = Regress(("x",), (0.0,), (1.0,))
    assert compare_predictions(task, right, right * 1.001).moved == pytest.approx(0.001, rel=1e-2)
    assert compare_predictions(task, right, right * 1.1).fault("bf16")


def test_masks_are_compared_pixel_by_pixel() -> None:
    task = Segment(("sky", "tree"))
    right = torch.zeros(2, 2, 10, 10)
    right[:, 0] = 1
    other = right.clone()
    other[0, :, 0, 0] = torch.tensor([0.0, 1.0])
    found = compare_predictions(task, right, other)
    assert (found.equal, found.moved) == (pytest.approx(199 / 200), 0.0)
    assert found.fault("bf16") == ""
    other[0, :, 0, 1] = torch.tensor([0.0, 1.0])
    assert compare_predictions(task, right, other).fault("bf16")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_answers_that_are_no_numbers_never_agree(bad: float) -> None:
    other = logits(10)
    other[3] = bad
    assert compare_predictions(CLASSIFY, logits(10), other).fault("bf16")
    assert compare_predictions(CLASSIFY, logits(10), other).fault("fp32")
    task = Regress(("x",), (0.0,), (1.0,))
    assert compare_predictions(task, torch.ones(4, 1), torch.tensor([[1.0], [bad], [1.0], [1.0]])).fault("bf16")


def test_other_shapes_never_agree() -> None:
    assert compare_predictions(CLASSIFY, logits(4), logits(3)).fault("bf16")


def test_fp32_in_another_order_may_differ_by_rounding_only() -> None:
    bounds = {"samples": 200, "equal": 1.0, "moved": MOST_MOVED / 2}
    assert PredictionAgreement(**bounds, rounding=TOLERANCES["fp32"].outputs / 2).fault("fp32") == ""
    assert "more than rounding" in PredictionAgreement(**bounds, rounding=TOLERANCES["fp32"].outputs * 2).fault("fp32")
    assert PredictionAgreement(**bounds, rounding=TOLERANCES["fp32"].outputs * 2).fault("bf16") == ""
