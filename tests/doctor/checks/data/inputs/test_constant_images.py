"""`data.constant-images`: does every image or signal have content?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from for_checks.asked import asked, perceptron, pixels
from striate.doctor.checks.data.inputs.constant_images import CONSTANT_IMAGES


def test_blank_images_are_counted() -> None:
    x, y = pixels()
    x[::10] = 0.7
    (finding,) = asked(CONSTANT_IMAGES, perceptron(), (x, y))
    assert (finding.severity, finding.measured[:24]) == ("warning", "32 of 320 samples have o")


@pytest.mark.parametrize("blank", [0, 2])
def test_one_or_two_blank_images_are_let_pass(blank: int) -> None:
    x, y = pixels()
    x[:blank] = 0
    assert not asked(CONSTANT_IMAGES, perceptron(), (x, y))


@pytest.mark.parametrize("faulty", [False, True])
def test_a_blank_image_with_none_of_several_labels_is_right(faulty: bool) -> None:
    x, y = pixels()
    tags = nn.functional.one_hot(y % 10, 10).float()
    x[::10] = 0.7
    tags[1 if faulty else 0 :: 10] = 0
    found = asked(CONSTANT_IMAGES, perceptron(), (x, tags), loss=nn.BCEWithLogitsLoss())
    assert [finding.code for finding in found] == ["data.constant-images"] * faulty


@pytest.mark.parametrize("empty", [False, True])
def test_targets_of_any_name_are_those_that_a_loss_asks_for(empty: bool) -> None:
    x, y = pixels()
    x[::10] = 0.7
    tags = nn.functional.one_hot(y % 10, 10).float()
    tags[0 if empty else 1 :: 10] = 0

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
        loss = nn.functional.binary_cross_entropy_with_logits(model(batch["pixels"]), batch["tags"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    batches = [{"pixels": a, "tags": b} for a, b in zip(x.split(32), tags.split(32), strict=True)]
    found = asked(CONSTANT_IMAGES, perceptron(), batches, step=step)
    assert [finding.code for finding in found] == ["data.constant-images"] * (not empty)


def test_rows_of_a_table_may_have_one_value() -> None:
    x, y = torch.zeros(60, 20), torch.arange(60) % 2
    assert not asked(CONSTANT_IMAGES, nn.Linear(20, 2), (x, y))
