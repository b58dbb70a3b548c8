"""What becomes of gradients: steps, clearing, clipping, decay, and which parameters get them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.optim.clip_too_small import CLIP_TOO_SMALL
from striate.doctor.checks.optim.rate_too_low import LR_TOO_LOW
from striate.doctor.checks.optim.steps import MISSING_ZERO_GRAD, NO_STEP, PARAMETERS_MISSING
from striate.doctor.checks.optim.weight_decay_too_high import WEIGHT_DECAY_TOO_HIGH

LOSS = nn.CrossEntropyLoss()


def stepping(every: int = 1, *, clear: str = "before", clip: float = 0.0) -> Any:
    """A step of so many batches each; gradients are cleared `before` backward, `after` the step, `between` or never."""
    count = 0

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        nonlocal count
        if clear == "before" and count % every == 0:
            optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        (value / every).backward()
        count += 1
        if clear == "between":
            optimizer.zero_grad()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        if count % every == 0:
            optimizer.step()
            if clear == "after":
                optimizer.zero_grad()
        return value

    return step


def sgd(model: nn.Module, lr: float = 0.05, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=lr, **options)


@pytest.mark.parametrize(("every", "clear", "measured"), [(10_000, "before", "never steps"), (1, "between", "is left")])
def test_no_step_is_made(every: int, clear: str, measured: str) -> None:
    model = perceptron()
    options: dict[str, Any] = {"step": stepping(every, clear=clear), "optimizer": sgd(model), "loss": LOSS}
    (found,) = asked(NO_STEP, model, digits(), **options)
    assert (found.code, found.severity) == ("optim.no-step", "error")
    assert measured in found.measured
    assert "optimizer.step()" in found.remedy


@pytest.mark.parametrize("every", [1, 4, 20])
def test_a_step_in_every_some_batches_is_one(every: int) -> None:
    model = perceptron()
    assert not asked(NO_STEP, model, digits(), step=stepping(every), optimizer=sgd(model), loss=LOSS)


def test_gradients_are_never_cleared() -> None:
    model = perceptron()
    step = stepping(clear="never")
    (found,) = asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)
    assert (found.code, found.severity) == ("optim.missing-zero-grad", "error")
    assert "`optimizer.zero_grad()` before `loss.backward()`" in found.remedy


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(("every", "clear"), [(1, "before"), (1, "after"), (4, "before"), (4, "after")])
def test_gradients_that_are_cleared_at_some_time(every: int, clear: str) -> None:
    model = perceptron()
    step = stepping(every, clear=clear)
    assert not asked(MISSING_ZERO_GRAD, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)


@pytest.mark.slow
def test_a_clip_that_cuts_everything() -> None:
    model = perceptron()
    options: dict[str, Any] = {"optimizer": sgd(model, 0.2), "loss": LOSS}
    (found,) = asked(CLIP_TOO_SMALL, model, digits(), step=stepping(clip=1e-4), **options)
    assert (found.code, found.severity) == ("optim.clip-too-small", "error")
    assert "without clipping the loss after" in found.measured
    assert "clip_grad_norm_(model.parameters(), " in found.remedy
    assert not asked(CLIP_TOO_SMALL, model, digits(), step=stepping(clip=1.0), **options)


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
    assert not asked(CLIP_TOO_SMALL, model, digits(), step=stepping(clip=1e-3), optimizer=adam, loss=LOSS)


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


def test_decay_that_takes_all_weights() -> None:
    model = perceptron()
    options: dict[str, Any] = {"loss": LOSS}
    strong = sgd(model, weight_decay=2.0)
    (found,) = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=strong, **options)
    assert (found.code, found.severity) == ("optim.weight-decay-too-high", "error")
    assert "weight_decay=2 shrinks the weights to" in found.measured
    usual = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    assert not asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=usual, **options)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("decay", "wrong"), [(0.1, True), (5e-4, False)])
def test_decay_of_the_size_that_adamw_takes(decay: float, wrong: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=decay)
    found = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), optimizer=optimizer, loss=LOSS)
    assert [f.code for f in found] == ["optim.weight-decay-too-high"] * wrong


def penalized(strength: float) -> Any:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        (value + strength * sum(p.square().sum() for p in model.parameters())).backward()
        optimizer.step()
        return value

    return step


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("strength", "wrong"), [(1.0, True), (1e-4, False)])
def test_a_penalty_added_by_hand(strength: float, wrong: bool) -> None:
    model = perceptron()
    found = asked(
        WEIGHT_DECAY_TOO_HIGH,
        model,
        digits(),
        step=penalized(strength),
        optimizer=sgd(model),
        loss=LOSS,
    )
    assert bool(found) is wrong
    if found:
        assert found[0].where == "the loss"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("strength", "wrong"), [(3.0, True), (1e-4, False)])
def test_a_penalty_that_the_loss_consists_of(strength: float, wrong: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(640, 8)
    data = DataLoader(TensorDataset(x, x[:, :1] - x[:, 1:2]), 32, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = nn.functional.mse_loss(model(batch[0]), batch[1])
        value = value + strength * sum(p.square().sum() for p in model.parameters() if p.ndim > 1)
        value.backward()
        optimizer.step()
        return value

    found = asked(WEIGHT_DECAY_TOO_HIGH, model, data, step=step, optimizer=sgd(model))
    assert [f.code for f in found] == ["optim.weight-decay-too-high"] * wrong
    assert all("comes back through the outputs alone R² is" in f.measured for f in found)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("factor", "wrong"), [(0.7, True), (0.999, False)])
def test_weights_made_smaller_by_the_step(factor: float, wrong: bool) -> None:
    model = perceptron()

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        value = loop(model, batch, optimizer, loss)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter *= factor
        return value

    found = asked(WEIGHT_DECAY_TOO_HIGH, model, digits(), step=step, optimizer=sgd(model), loss=LOSS)
    assert [finding.where for finding in found] == (["the training step"] if wrong else [])


def test_an_optimizer_of_the_last_layer_only() -> None:
    model = perceptron(4, depth=2)
    optimizer = torch.optim.Adam(model[-1].parameters(), lr=0.01)
    (found,) = asked(PARAMETERS_MISSING, model, digits(), optimizer=optimizer)
    assert (found.code, found.severity) == ("optim.parameters-missing", "error")
    assert "4 of 6 parameters" in found.measured
    assert "with them in it the loss after" in found.measured


def test_missing_parameters_are_tried_in_the_groups_that_a_schedule_counts() -> None:
    model = perceptron(4, depth=2)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Any:
        for group, rate in zip(optimizer.param_groups, [0.01], strict=True):
            group["lr"] = rate
        return loop(model, batch, optimizer, loss)

    optimizer = torch.optim.Adam(model[-1].parameters(), lr=0.01)
    (found,) = asked(PARAMETERS_MISSING, model, digits(), optimizer=optimizer, step=step, loss=nn.CrossEntropyLoss())
    assert found.code == "optim.parameters-missing"


def test_an_optimizer_of_another_network() -> None:
    model = perceptron()
    (found,) = asked(PARAMETERS_MISSING, copy.deepcopy(model), digits(), optimizer=sgd(model))
    assert found.severity == "error"
    assert "none of the 4 parameters" in found.measured


@pytest.mark.slow
def test_a_trained_trunk_that_is_left_as_it_is_may_be_meant() -> None:
    model = perceptron(32, depth=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(10):
        for batch in digits():
            loop(model, batch, optimizer, LOSS)
    model[-1].reset_parameters()
    head = torch.optim.Adam(model[-1].parameters(), lr=0.01)
    assert [f.severity for f in asked(PARAMETERS_MISSING, model, digits(), optimizer=head)] == ["note"]
    model[:-1].requires_grad_(False)
    assert not asked(PARAMETERS_MISSING, model, digits(), optimizer=head)
