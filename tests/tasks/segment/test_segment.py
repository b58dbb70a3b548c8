"""Segmentation agrees with scikit-learn; masks move with their images; what is unlabeled counts for nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, jaccard_score
from torch.nn import functional

from striate.data.augment.warp import Warp
from striate.tasks.evaluation import Evaluation
from striate.tasks.segment.task import IGNORED, Segment

TASK = Segment(("ground", "disk", "square"))


def test_shares_have_a_key_for_each_class() -> None:
    found = TASK.describe(torch.tensor([[0, 0], [0, 2]], dtype=torch.uint8))
    assert found == {"shares": {"ground": 0.75, "disk": 0.0, "square": 0.25}}
    assert TASK.line(found) == "ground 0.75  square 0.25"


def answers() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(3, (6, 8, 9), generator=generator).to(torch.uint8)
    targets[torch.rand(6, 8, 9, generator=generator) < 0.2] = IGNORED
    return torch.randn(6, 3, 8, 9, generator=generator), targets


def test_metrics_are_those_of_scikit_learn_over_labeled_pixels() -> None:
    outputs, targets = answers()
    labeled = targets != IGNORED
    truth, predicted = targets[labeled].numpy(), outputs.argmax(1)[labeled].numpy()
    metrics = TASK.measure(TASK.decode(outputs), targets)
    assert metrics["iou"] == pytest.approx(jaccard_score(truth, predicted, average="macro"))
    assert metrics["pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted))


def test_the_loss_is_that_of_torch_and_adds_up_from_parts() -> None:
    outputs, targets = answers()
    expected = float(functional.cross_entropy(outputs, targets.long(), ignore_index=IGNORED))
    assert float(TASK.loss(outputs, targets)) == pytest.approx(expected, rel=1e-6)
    summary = TASK.summarize(TASK.tally(outputs[:2], targets[:2]) + TASK.tally(outputs[2:], targets[2:]))
    assert summary["loss"] == pytest.approx(expected, rel=1e-6)
    assert summary["iou"] == pytest.approx(TASK.measure(TASK.decode(outputs), targets)["iou"])


def test_a_batch_without_labeled_pixels_has_no_loss_and_no_nan() -> None:
    outputs, targets = answers()
    assert float(TASK.loss(outputs, torch.full_like(targets, IGNORED))) == 0.0


def test_a_network_that_finds_nothing_says_so() -> None:
    targets = torch.zeros(4, 8, 8, dtype=torch.uint8)
    targets[:, :2, :2], targets[:, 7] = 1, IGNORED
    task = Segment(("ground", "disc"))
    nothing = _evaluation(targets, torch.zeros_like(targets))
    [finding] = task.prediction_findings(nothing)
    assert (finding.code, finding.measured) == ("fit.one-class", "ground is predicted everywhere")
    assert "the most frequent class would reach 92.9 %" in task.headline_text(nothing)[1]
    assert task.prediction_findings(_evaluation(targets, targets)) == ()


def _evaluation(targets: torch.Tensor, decoded: torch.Tensor) -> Evaluation:
    metrics = {"iou": 0.5, "pixel_accuracy": 0.9}
    arrays, ids = (decoded.numpy(), targets.numpy()), np.arange(len(targets))
    return Evaluation("discs", "test", "segment", ("ground", "disc"), len(targets), metrics, *arrays, ids)


def test_a_mask_moves_exactly_as_its_image_does() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.randint(3, (5, 12, 12), generator=generator).to(torch.uint8)
    warp = Warp(torch.tensor([True, False, True, False, True]), torch.randint(-3, 4, (5, 2), generator=generator))
    moved = TASK.warp_targets(masks, warp)
    as_image = warp.apply(masks[:, None], fill=IGNORED)[:, 0]
    assert torch.equal(moved, as_image)
    assert not torch.equal(moved, masks)


def test_a_cropped_mask_holds_only_class_numbers() -> None:
    masks = torch.zeros(2, 16, 16, dtype=torch.uint8)
    masks[:, 4:12, 4:12] = 2
    box = torch.tensor([[0.1, 0.2, 0.6, 0.7], [0.3, 0.0, 0.5, 0.5]])
    warp = Warp(torch.zeros(2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.int64), box)
    assert set(TASK.warp_targets(masks, warp).unique().tolist()) <= {0, 2}
