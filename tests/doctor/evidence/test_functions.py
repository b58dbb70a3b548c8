"""Functions with a backward pass of their own: what they were given in a step, and whether their gradient is right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from striate.doctor.evidence.functions import check_function


class Signs(torch.autograd.Function):
    """Signs times a scale of each row, whose gradient passes straight through."""

    @staticmethod
    def forward(_: Any, w: Tensor) -> Tensor:
        return torch.where(w >= 0, 1.0, -1.0) * w.abs().mean(1, keepdim=True)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, w: Tensor) -> Tensor:
        return 2 * w

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


@pytest.mark.parametrize(("function", "meant"), [(Signs, True), (Doubled, False)])
def test_a_gradient_of_choice_is_known_by_what_it_rounds(function: Any, meant: bool) -> None:
    checked = check_function(function, (torch.randn(4, 40, generator=torch.Generator().manual_seed(0)),))
    assert checked.wrong
    assert checked.intended is meant


class Quantized(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, x: Tensor, scale: Tensor) -> Tensor:
        return (x / scale).round() * scale

    @staticmethod
    def backward(_: Any, *given: Tensor) -> Any:
        return given[0], None


@pytest.mark.parametrize(("learned", "meant"), [(False, True), (True, False)])
def test_only_gradients_that_are_asked_for_are_held_against_slopes(learned: bool, meant: bool) -> None:
    x = torch.randn(40, requires_grad=True)
    scale = torch.tensor([0.1], requires_grad=learned)
    found = check_function(Quantized, (x, scale))
    assert found.intended is meant
    assert len(found.wrong) == 1 + learned
