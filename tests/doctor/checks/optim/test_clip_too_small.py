"""`optim.clip-too-small`: does clipping leave enough of the gradients?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, digits, perceptron, sgd
from for_checks.steps import every_so_many
from striate.doctor.checks.optim.clip_too_small import CLIP_TOO_SMALL
from striate.doctor.checks.optim.lr_too_low import LR_TOO_LOW

LOSS = nn.CrossEntropyLoss()


@pytest.mark.slow
def test_a_clip_that_cuts_everything() -> None:
    model = perceptron()
    options: dict[str, Any] = {"optimizer": sgd(model, 0.2), "loss": LOSS}
    (found,) = asked(CLIP_TOO_SMALL, model, digits(), step=every_so_many(clip=1e-4), **options)
    assert (found.code, found.severity) == ("optim.clip-too-small", "error")
    assert "without clipping the loss after" in found.measured
    assert "clip_grad_norm_(model.parameters(), " in found.remedy
    assert not asked(CLIP_TOO_SMALL, model, digits(), step=every_so_many(clip=1.0), **options)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("limit", "wrong"), [(1e-6, True), (1.0, False)])
def test_hooks_that_clip(limit: float, wrong: bool) -> None:
    model = perceptron()
    for parameter in model.parameters():
        parameter.register_hook(lambda gradient: gradient.clamp(-limit, limit))
    found = asked(CLIP_TOO_SMALL, model, digits(), optimizer=sgd(model, 0.1))
    assert [finding.where for finding in found] == (["the hooks of parameters"] if wrong else [])
    assert all(len(parameter._backward_hooks or {}) == 1 for parameter in model.parameters())


def test_a_clip_does_not_matter_to_adam() -> None:
    model = perceptron()
    adam = torch.optim.Adam(model.parameters(), lr=3e-3)
    assert not asked(CLIP_TOO_SMALL, model, digits(), step=every_so_many(clip=1e-3), optimizer=adam, loss=LOSS)


def scaling(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    """Mixed precision's scale, taken off again, at a rate that is too low."""
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    (value * 65536).backward()
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= 65536
    optimizer.step()
    return value


@pytest.mark.slow
def test_a_scale_is_no_clip() -> None:
    model = perceptron()
    options: dict[str, Any] = {"optimizer": sgd(model, 1e-6), "loss": LOSS, "step": scaling}
    assert not asked(CLIP_TOO_SMALL, model, digits(), **options)
    assert asked(LR_TOO_LOW, model, digits(), **options)


def test_what_a_scaler_made_larger_is_not_clipped_away() -> None:
    scaler = torch.amp.GradScaler("cpu")

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        scaler.scale(value).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return value.detach()

    def slow(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-4)

    assert not asked(CLIP_TOO_SMALL, perceptron(), digits(), step=step, loss=nn.CrossEntropyLoss(), optimizer=slow)
