"""`data.label-range`: does the network have an output for every label?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import asked, loop, more_rows, perceptron, pixels
from for_checks.networks import two_layers
from striate.doctor.checks.data.labels.label_range import LABEL_RANGE
from striate.doctor.checks.data.labels.missing_class import MISSING_CLASS


def test_labels_from_one_are_told_with_their_mend() -> None:
    x, y = pixels()
    (finding,) = asked(LABEL_RANGE, perceptron(), (x, y + 1))
    assert "targets from 1 to 10 for 10 outputs" in finding.measured
    assert "raises IndexError" in finding.measured
    assert "`y = y - 1`" in finding.remedy


def test_a_step_with_a_loss_of_its_own_is_judged_by_what_it_raises() -> None:
    def step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.nll_loss(model(batch[0]).log_softmax(1), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    x, y = pixels()
    assert asked(LABEL_RANGE, perceptron(), (x, y + 1), step=step)
    assert not asked(LABEL_RANGE, perceptron(), (x, y), step=step)


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("ignored", [-1, -100, 255])
def test_labels_that_the_loss_leaves_out_are_let_pass(ignored: int) -> None:
    x, y = pixels()
    y[::4] = ignored
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    assert not asked(LABEL_RANGE, perceptron(), (x, y), loss=loss)
    assert asked(LABEL_RANGE, perceptron(), (x, y), loss=nn.CrossEntropyLoss(ignore_index=-7))


def test_plus_and_minus_one_fit_a_margin_and_not_a_binary_cross_entropy() -> None:
    x, y = pixels()
    signs = 2.0 * (y > 4).float()[:, None] - 1
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    (finding,) = asked(LABEL_RANGE, model, (x, signs), loss=nn.BCEWithLogitsLoss())
    assert "`y = (y + 1) / 2`" in finding.remedy
    assert not asked(LABEL_RANGE, model, (x, signs), loss=nn.SoftMarginLoss())


def test_a_step_that_numbers_classes_itself_is_healthy() -> None:
    def step(model: nn.Module, batch: tuple[Tensor, Tensor], optimizer: torch.optim.Optimizer, loss: object) -> Tensor:
        return loop(model, (batch[0], batch[1] - 1), optimizer, loss)

    x, y = pixels()
    assert not asked(LABEL_RANGE, perceptron(), (x, y + 1), step=step)
    assert not asked(MISSING_CLASS, perceptron(), (x, y + 1), step=step)


def test_labels_that_the_step_moves_out_of_range_are_told() -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        return loop(model, (batch[0], batch[1] + 1), optimizer, loss)

    (finding,) = asked(LABEL_RANGE, perceptron(), pixels(), step=step)
    assert finding.code == "data.label-range"
    assert "the step changes them" in finding.measured


@pytest.mark.parametrize("gap", [False, True])
def test_labels_without_gaps_are_not_to_be_renumbered(gap: bool) -> None:
    y = torch.arange(60) % 3
    (finding,) = asked(LABEL_RANGE, nn.Linear(4, 2), (more_rows(60, 4), torch.where(y == 2, 7, y) if gap else y))
    assert ("Number the classes" in finding.remedy) == gap
    assert f"ive the last layer {8 if gap else 3} outputs" in finding.remedy


def of_thresholds(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Of K − 1 thresholds for K ordered classes, as CORAL has it."""
    levels = (labels[:, None] > torch.arange(logits.shape[1])).float()
    return functional.binary_cross_entropy_with_logits(logits, levels)


def picked(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """A cross entropy of one's own: −1 is the last class."""
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()


@pytest.mark.parametrize(("loss", "first", "found"), [(of_thresholds, 0, False), (picked, -1, True)])
def test_a_label_beyond_the_outputs_may_be_a_class_of_its_own(loss: Any, first: int, found: bool) -> None:
    x = more_rows()
    labels = torch.bucketize(x[:, 0] + x[:, 1], torch.tensor([-1.5, -0.5, 0.5, 1.5])) + first
    assert bool(asked(LABEL_RANGE, two_layers(8, 4), (x, labels), loss=loss)) == found
