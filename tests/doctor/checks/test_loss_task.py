"""Losses that compute something else than the task: what they are given tells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 — as everybody writes it
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK


def ending_with(outputs: int, *last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, outputs), *last)


def one_hot_bce(outputs: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy(outputs.softmax(1), F.one_hot(y, 10).float())


def own_likelihood(outputs: Tensor, y: Tensor) -> Tensor:
    return -outputs[torch.arange(len(y)), y].mean()


def to_numbers(outputs: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(outputs.squeeze(1), y.float())


WRONG: list[tuple[str, nn.Module, Any, str]] = [
    ("class numbers", ending_with(1), to_numbers, "CrossEntropyLoss"),
    ("scores", ending_with(10), nn.NLLLoss(), "CrossEntropyLoss"),
    ("probabilities", ending_with(10, nn.Softmax(1)), nn.NLLLoss(), "log_softmax"),
    ("own likelihood", ending_with(10), own_likelihood, "CrossEntropyLoss"),
    ("softmax and yes or no", ending_with(10), one_hot_bce, "CrossEntropyLoss"),
    ("one output", ending_with(1), lambda o, y: F.cross_entropy(o, y[:, None].float()), "BCEWithLogitsLoss"),
    ("as if a batch were classes", ending_with(1), lambda o, y: F.cross_entropy(o[:, 0], y.float()), "MSELoss"),
    ("numbers for yes and no", ending_with(1), lambda o, y: F.binary_cross_entropy_with_logits(o[:, 0], y.float()), ""),
    ("divergence", ending_with(10), lambda o, y: F.kl_div(o, F.one_hot(y, 10).float()), "log_softmax"),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("name", "model", "loss", "remedy"), WRONG, ids=[row[0] for row in WRONG])
def test_what_a_loss_is_given_tells_that_it_is_wrong(name: str, model: nn.Module, loss: Any, remedy: str) -> None:
    (found,) = asked(WRONG_FOR_TASK, model, digits(), loss=loss)
    assert found.code == "loss.wrong-for-task"
    assert found.severity in ("error", "warning")
    assert remedy in found.remedy


def test_a_loss_inside_the_step_is_seen_too() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch, optimizer, F.nll_loss)

    (found,) = asked(WRONG_FOR_TASK, ending_with(10), digits(), step=step)
    assert "exponentials sum to" in found.measured


RIGHT: list[tuple[nn.Module, Any]] = [
    (ending_with(10), nn.CrossEntropyLoss(label_smoothing=0.1)),
    (ending_with(10, nn.LogSoftmax(1)), nn.NLLLoss()),
    (ending_with(10, nn.LogSoftmax(1)), own_likelihood),
    (ending_with(10), lambda o, y: F.mse_loss(o, F.one_hot(y, 10).float())),
    (ending_with(10, nn.LogSoftmax(1)), lambda o, y: F.kl_div(o, F.one_hot(y, 10).float(), reduction="batchmean")),
    (ending_with(10), nn.MultiMarginLoss()),
]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("model", "loss"), RIGHT)
def test_losses_for_classes_are_right(model: nn.Module, loss: Any) -> None:
    assert not asked(WRONG_FOR_TASK, model, digits(), loss=loss)


def test_quantities_that_are_whole_numbers_are_no_classes() -> None:
    assert not asked(WRONG_FOR_TASK, ending_with(1), digits(), loss=to_numbers, task="regress")


def test_cross_entropy_for_quantities_is_wrong() -> None:
    (found,) = asked(
        WRONG_FOR_TASK,
        ending_with(20),
        digits(),
        loss=lambda o, y: F.cross_entropy(o, y),
        task="regress",
    )
    assert "nn.MSELoss()" in found.remedy


def test_several_right_classes_are_no_matter_of_cross_entropy() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(128, 64, generator=generator), (torch.rand(128, 5, generator=generator) < 0.4).float()
    loader = DataLoader(TensorDataset(x, y), 32)
    (found,) = asked(WRONG_FOR_TASK, ending_with(5), loader, loss=nn.CrossEntropyLoss())
    assert "BCEWithLogitsLoss" in found.remedy
    assert not asked(WRONG_FOR_TASK, ending_with(5), loader, loss=nn.BCEWithLogitsLoss())


RAISING: list[tuple[nn.Module, Any, str]] = [
    (ending_with(10), lambda o, y: F.cross_entropy(o, y[:, None]), "squeeze(1)"),
    (ending_with(10), lambda o, y: F.cross_entropy(o, y, reduction="none"), "mean()"),
    (ending_with(1), nn.CrossEntropyLoss(), "output for each class"),
    (ending_with(10), lambda o, y: F.mse_loss(o, y.float()), "CrossEntropyLoss"),
    (ending_with(10), lambda o, y: F.cross_entropy(o, y.int()), "long()"),
]


@pytest.mark.parametrize(("model", "loss", "remedy"), RAISING)
def test_a_loss_that_raises_is_explained(model: nn.Module, loss: Any, remedy: str) -> None:
    (found,) = asked(WRONG_FOR_TASK, model, digits(), loss=loss)
    assert "raises" in found.measured
    assert remedy in found.remedy


def quantities(shape: tuple[int, ...] = (), count: int = 256) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 64, generator=generator)
    y = x[:, :4].sum(1).reshape(-1, *shape) + 0.1 * torch.randn(count, *shape, generator=generator)
    return DataLoader(TensorDataset(x, y), 32, shuffle=True, generator=generator)


def squares(outputs: Tensor, y: Tensor) -> Tensor:
    return ((outputs - y) ** 2).mean()


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("loss", [squares, nn.MSELoss(), nn.SmoothL1Loss()])
def test_all_with_all_is_named_with_the_mended_loss(loss: Any) -> None:
    (found,) = asked(BROADCAST, ending_with(1), quantities(), loss=loss, task="regress")
    assert (found.code, found.severity) == ("loss.broadcast", "error")
    assert "outputs have shape 32×1, targets 32 and are compared as 32×32" in found.measured
    assert "with outputs in the shape of the targets" in found.measured
    assert "outputs.squeeze(1)" in found.remedy


def test_all_with_all_is_seen_in_a_step_with_its_own_loss() -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        return loop(model, batch, optimizer, squares)

    (found,) = asked(BROADCAST, ending_with(1), quantities(), step=step, task="regress")
    assert found.code == "loss.broadcast"


def test_flat_outputs_for_upright_targets() -> None:
    (found,) = asked(BROADCAST, ending_with(1, nn.Flatten(0)), quantities((1,)), loss=squares, task="regress")
    assert "targets.squeeze(1)" in found.remedy


def test_masks_with_an_axis_too_few() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(48, 1, 6, 6, generator=generator)
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 12)
    torch.manual_seed(0)
    model = nn.Conv2d(1, 1, 3, padding=1)
    (found,) = asked(BROADCAST, model, loader, loss=squares, task="segment")
    assert "outputs.squeeze(1)" in found.remedy


def test_one_output_for_several_quantities() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, 64, generator=generator)
    loader = DataLoader(TensorDataset(x, x[:, :3]), 24)
    (found,) = asked(BROADCAST, ending_with(1), loader, loss=nn.MSELoss(), task="regress")
    assert "3 outputs" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("model", "loss", "shape"),
    [
        (ending_with(1), squares, (1,)),
        (ending_with(1, nn.Flatten(0)), squares, ()),
        (ending_with(1), lambda o, y: squares(o.squeeze(1), y), ()),
        (ending_with(1), lambda o, y: squares(o, y.unsqueeze(1)), ()),
    ],
)
def test_what_is_brought_into_one_shape_is_left_in_peace(model: nn.Module, loss: Any, shape: tuple[int, ...]) -> None:
    assert not asked(BROADCAST, model, quantities(shape), loss=loss, task="regress")


def test_classes_are_not_compared_all_with_all() -> None:
    assert not asked(BROADCAST, perceptron(), digits(), loss=nn.CrossEntropyLoss())
