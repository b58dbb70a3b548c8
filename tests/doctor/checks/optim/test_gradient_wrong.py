"""`optim.gradient-wrong`: do hand-written backward passes agree with numerical gradients?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import Function

from for_checks.asked import asked, digits
from striate.doctor.checks.optim.gradient_wrong import GRADIENT_WRONG


class Square(Function):
    """x², whose slope is right for `factor` 2."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * ctx.saved_tensors[0] * gradient, None


class Rounded(Function):
    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient


class Reversed(Function):
    """Gradient reversal: Ganin and Lempitsky 2015."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return -gradient


class FedBack(Function):
    """Feedback alignment: Lillicrap et al. 2016."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, feedback: Tensor) -> Tensor:
        ctx.save_for_backward(x, feedback)
        return x @ weight.t()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        x, feedback = ctx.saved_tensors
        return gradient @ feedback, gradient.t() @ x, None


class Sum(Function):
    """The context in a function of its own, as torch has it since 2.0; two inputs, the second one forgotten."""

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        return x + y.sin()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], _: Any) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        return gradient, gradient * ctx.saved_tensors[0].sin()


class Using(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.function = nn.Linear(64, 16), nn.Linear(16, 10), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.first(x.flatten(1))))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("function", "severity"),
    [
        (lambda x: Square.apply(x, 2.0), None),
        (lambda x: Square.apply(x, 1.0), "error"),
        (lambda x: Square.apply(x, -2.0), "error"),
        (lambda x: Sum.apply(x, x), "error"),
        (Rounded.apply, "note"),
        (Reversed.apply, "note"),
        (lambda x: FedBack.apply(x, torch.ones(16, 16), torch.eye(16)), "note"),
        (torch.relu, None),
    ],
)
def test_a_function_of_ones_own(function: Any, severity: str | None) -> None:
    found = asked(GRADIENT_WRONG, Using(function), digits())
    assert [finding.severity for finding in found] == ([severity] if severity else [])


def test_the_function_and_its_slopes_are_named() -> None:
    (found,) = asked(GRADIENT_WRONG, Using(lambda x: Square.apply(x, 1.0)), digits())
    assert found.where == "Square"
    assert "backward gives" in found.measured
    assert "the numerical gradient is" in found.measured
    assert "torch.autograd.gradcheck(Square.apply" in found.remedy


def test_a_function_in_the_loss() -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        wanted = nn.functional.one_hot(targets, 10).float()
        return Square.apply(outputs - wanted, -2.0).mean()

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    (found,) = asked(GRADIENT_WRONG, model, digits(), loss=loss)
    assert found.severity == "error"


def test_the_function_is_left_as_it_was() -> None:
    before = vars(Square)["forward"]
    asked(GRADIENT_WRONG, Using(lambda x: Square.apply(x, 1.0)), digits())
    assert vars(Square)["forward"] is before
