"""Exceptions of the first step: where they are raised, and by whose code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import striate
from for_checks.asked import digits, perceptron
from striate.errors import ModelError, UsageError


def without_attribute(model: Any, batch: Any, _: Any, loss: Any) -> None:
    loss(model(batch[0]), batch[1]).backwards()


def of_two_arguments(model: Any, batch: Any) -> None: ...


def before_the_network(_: Any, batch: Any, __: Any, ___: Any) -> None:
    batch["images"]


def wrong_input(model: Any, batch: Any, _: Any, __: Any) -> None:
    model(batch[0].flatten(1)[:, :5])


def tensors_that_do_not_fit(model: Any, batch: Any, _: Any, __: Any) -> None:
    model(batch[0]) @ batch[0]


def line_of(function: Callable[..., Any], after: int = 1) -> str:
    return f"({Path(__file__).name}, line {function.__code__.co_firstlineno + after})"


@pytest.mark.parametrize(("step", "after"), [(without_attribute, 1), (of_two_arguments, 0), (before_the_network, 1)])
def test_a_step_with_a_mistake_is_refused_with_its_line(step: Any, after: int) -> None:
    with pytest.raises(UsageError) as caught:
        striate.diagnose(perceptron(), digits(), step=step, budget_seconds=5)
    assert caught.value.where == "step"
    assert line_of(step, after) in caught.value.got
    assert "step(model, batch, optimizer, loss)" in caught.value.expected


def of_no_number(outputs: Any, targets: Any) -> Any:
    return outputs.logits, targets


@pytest.mark.parametrize(("loss", "after"), [(of_no_number, 1), (lambda _: torch.zeros(()), 0)])
def test_a_loss_with_a_mistake_is_refused_with_its_line(loss: Any, after: int) -> None:
    with pytest.raises(UsageError) as caught:
        striate.diagnose(perceptron(), digits(), loss=loss, budget_seconds=5)
    assert caught.value.where == "loss"
    assert line_of(loss, after) in caught.value.got


def test_a_network_that_refuses_its_input_is_told_with_the_line() -> None:
    with pytest.raises(ModelError) as caught:
        striate.diagnose(perceptron(), digits(), step=wrong_input, budget_seconds=5)
    assert line_of(wrong_input) in caught.value.got


def test_tensors_that_do_not_fit_are_a_finding_with_the_line() -> None:
    [finding] = striate.diagnose(perceptron(), digits(), step=tensors_that_do_not_fit, budget_seconds=5).findings
    assert finding.where == f"the training step {line_of(tensors_that_do_not_fit)}"
    assert finding.threshold != "none"


def convolution(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, 2, 3), nn.Flatten(), nn.Linear(72, 10))


IMAGES, LABELS = torch.rand(40, 1, 8, 8), torch.arange(40) % 10


@pytest.mark.parametrize(
    ("channels", "x", "remedy"),
    [
        (3, IMAGES, "make its in_channels 1"),
        (1, (255 * IMAGES).to(torch.uint8), "train=(x.to(torch.float32) / 255, y)"),
        (1, IMAGES.double(), "train=(x.to(torch.float32), y)"),
    ],
)
@pytest.mark.each_nth(1)
def test_inputs_that_the_network_does_not_take_are_told_with_the_fix(channels: int, x: Any, remedy: str) -> None:
    with pytest.raises(ModelError) as caught:
        striate.diagnose(convolution(channels), (x, LABELS), budget_seconds=5)
    assert remedy in caught.value.remedy


def test_a_type_that_the_network_takes_is_no_mistake() -> None:
    words = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 10))
    assert striate.diagnose(words, (torch.randint(0, 10, (40, 3)), LABELS), budget_seconds=1).looked_at


def without_loss(model: Any, batch: Any, optimizer: Any, _: Any) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


def test_a_step_that_returns_no_loss_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        striate.diagnose(perceptron(), digits(), step=without_loss, budget_seconds=5)
    assert (caught.value.where, caught.value.got) == ("step", "it returns no loss")
    assert "return loss" in caught.value.remedy
