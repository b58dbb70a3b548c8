"""A candidate that computes something else is refused, and the table says why."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from plan_workloads import OffInHalfPrecision, plain_of, workload
from torch import nn

from striate.inference.plan import TOLERANCES
from striate.training.plan.agreement import Fp32Reference, Result, agreement, compare, reference_result
from striate.training.plan.trial import Trials


def trials(module: nn.Module | None = None, **fields: object) -> Trials:
    return Trials(workload(module, **fields), 32)


def test_layouts_and_bf16_of_a_usual_network_agree() -> None:
    found = trials(model__name="conv(6,3) bn relu conv(8,3) bn relu gap fc(10)")
    plain = plain_of(found.work)
    reference = reference_result(found, plain)
    assert compare(found, plain, reference).identical
    layout = compare(found, replace(plain, memory_format="channels_last"), reference)
    assert layout.passed
    half = compare(found, replace(plain, precision="bf16"), reference)
    assert half.passed
    assert not half.identical
    assert 1e-4 < half.gradient < 0.15
    assert str(half) == f"gradient off by {100 * half.gradient:.2g} %"


@pytest.mark.parametrize("swallowed", [3000.0, 1e6])
def test_a_network_that_half_precision_ruins_is_refused(swallowed: float) -> None:
    found = trials(OffInHalfPrecision(swallowed))
    plain = plain_of(found.work)
    refused = compare(found, replace(plain, precision="bf16"), reference_result(found, plain))
    assert not refused.passed
    assert "off by" in str(refused)
    assert "allowed" in str(refused)


def test_dropout_and_blends_are_no_disagreement() -> None:
    found = trials(model__name="conv(6,3) relu dropout(0.5) fc(10)", augment__mixup=0.4)
    plain = plain_of(found.work)
    reference = reference_result(found, plain)
    assert compare(found, plain, reference).identical
    assert compare(found, replace(plain, memory_format="channels_last"), reference).passed


def result(outputs: list[float], gradient: list[float], loss: float = 1.0) -> Result:
    return Result(torch.tensor(loss), torch.tensor(outputs), {"w": torch.tensor(gradient), "b": torch.tensor([0.0])})


REFERENCE = Fp32Reference(result([1.0, 2.0], [3.0, 4.0]), dict)


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (result([1.0, 2.0], [3.0, 4.0]), ""),
        (result([1.0, 2.0], [3.2, 4.2]), ""),  # 6 % of the gradient
        (result([1.0, 2.2], [3.0, 4.0]), "outputs off by"),
        (result([1.0, 2.0], [3.0, 4.0], 1.1), "loss off by 0.1, 0.015 allowed"),
        (result([1.0, 2.0], [4.0, 5.0]), "gradient off by 0.28, 0.15 allowed"),
        (result([1.0, 2.0], [-3.0, -4.0]), "gradient off by 2"),
        (result([1.0, float("nan")], [3.0, 4.0]), "outputs off by nan"),
        (result([1.0, 2.0], [3.0, float("nan")]), "gradient off by nan"),
        (result([1.0, 2.0], [3.0, 4.0], float("inf")), "loss off by inf"),
        (
            Result(torch.tensor(1.0), torch.tensor([1.0, 2.0]), {"w": torch.tensor([3.0, 4.0])}),
            "a different set of gradients",
        ),
    ],
)
def test_each_limit_is_told_by_itself(other: Result, why: str) -> None:
    found = agreement(other, REFERENCE, TOLERANCES["bf16"])
    assert found.why.startswith(why)
    assert found.passed == (why == "")


def test_what_other_samples_would_change_may_be_rounded_and_more_may_not() -> None:
    noisy = replace(REFERENCE, noise=lambda: {"w": 10.0, "b": 0.0})
    wrong = result([1.0, 2.0], [5.0, 6.0])  # off by 2.8, of which half of 10 is allowed
    assert agreement(wrong, noisy, TOLERANCES["bf16"]).passed
    assert not agreement(wrong, REFERENCE, TOLERANCES["bf16"]).passed
    assert not agreement(wrong, noisy, TOLERANCES["fp32"]).passed


def test_the_tensor_that_is_not_a_number_is_the_worst_wherever_it_stands() -> None:
    tensors = {name: torch.ones(3) for name in "abc"}
    reference = Fp32Reference(Result(torch.tensor(1.0), torch.ones(2), tensors), dict)
    for name in tensors:
        wrong = tensors | {name: torch.full((3,), float("nan"))}
        found = agreement(Result(torch.tensor(1.0), torch.ones(2), wrong), reference, TOLERANCES["bf16"])
        assert found.worst == name
        assert math.isnan(found.worst_error)
        assert found.why == "gradient off by nan, 0.15 allowed"


def test_one_wrong_tensor_is_found_among_right_ones() -> None:
    tensors = {f"w{k}": torch.full((100,), 1.0) for k in range(30)}
    reference = Fp32Reference(Result(torch.tensor(1.0), torch.ones(2), tensors), dict)
    wrong = tensors | {"w7": torch.full((100,), -1.0)}
    found = agreement(Result(torch.tensor(1.0), torch.ones(2), wrong), reference, TOLERANCES["bf16"])
    assert not found.passed
    assert found.worst == "w7"
    nothing = tensors | {"w7": torch.full((100,), 0.9)}
    assert agreement(Result(torch.tensor(1.0), torch.ones(2), nothing), reference, TOLERANCES["bf16"]).passed


def test_a_bias_that_hardly_has_a_gradient_may_have_another_one() -> None:
    """Not a kernel, and not one that is large beside the whole."""
    kernel, nothing = torch.ones(100), torch.full((4,), 0.01)

    def found(shape: tuple[int, ...], off: float) -> bool:
        true, other = ({"w": kernel, "b": (nothing + error).reshape(shape)} for error in (0.0, off))
        reference = Fp32Reference(Result(torch.tensor(1.0), torch.ones(2), true), dict)
        return agreement(Result(torch.tensor(1.0), torch.ones(2), other), reference, TOLERANCES["bf16"]).passed

    assert found((4,), 0.2)  # 4 % of the whole
    assert not found((2, 2), 0.2)
    assert not found((4,), 0.4)


class ViewsItsMaps(nn.Module):
    """As many tutorials end their convolutions: `view` takes maps that are contiguous, and raises for others."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.convolution, self.output, self.wrong = nn.Conv2d(1, 4, 3), nn.Linear(4, 10), wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.convolution(x)
        maps = 1.5 * maps if self.wrong and not maps.is_contiguous() else maps
        maps = maps if self.wrong else maps.view(len(x), -1).view_as(maps)
        return self.output(maps.mean((2, 3)))


def test_images_of_one_channel_are_contiguous_unless_the_candidate_says_otherwise() -> None:
    found = trials(ViewsItsMaps())
    plain = plain_of(found.work)
    reference = reference_result(found, plain)
    assert compare(found, plain, reference).identical
    with pytest.raises(RuntimeError, match="view"):
        compare(found, replace(plain, memory_format="channels_last"), reference)


def test_a_network_that_is_wrong_in_another_layout_is_refused() -> None:
    found = trials(ViewsItsMaps(wrong=True))
    plain = plain_of(found.work)
    assert not compare(found, replace(plain, memory_format="channels_last"), reference_result(found, plain)).passed


def test_nothing_to_compare_is_no_agreement() -> None:
    nothing = Result(torch.tensor(1.0), torch.ones(2), {})
    assert not agreement(nothing, Fp32Reference(nothing, dict), TOLERANCES["fp32"]).passed
