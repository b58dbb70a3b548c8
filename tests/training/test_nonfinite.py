"""NaN and Inf are caught at the step, with the layer, before the weights follow: planted bugs."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from short_runs import asked_for, events_of, parameters
from torch import nn

from striate.errors import NonFiniteLoss
from striate.training.events import EpochDone, EpochRow, StepDone
from striate.training.nonfinite import detect
from striate.training.nonfinite.detect import refuse_nonfinite_state, refuse_only_skipped
from striate.training.nonfinite.locate import locate_nonfinite
from striate.training.prepare import Prepared, prepare

PLAIN = {"execution__plan": "plain", "execution__device": "cpu", "batch": 64}


class _Spoiled(torch.autograd.Function):
    """The identity, whose gradient is not finite."""

    @staticmethod
    def forward(_: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(_: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] * torch.inf


class Spoiler(nn.Module):
    """The identity; from the `bad`th call in training on, something is not finite: outputs or gradients."""

    def __init__(self, what: str, bad: int) -> None:
        super().__init__()
        self.what, self.bad, self.calls = what, bad, 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if not self.training or self.calls < self.bad:
            return x
        return torch.as_tensor(_Spoiled.apply(x)) if self.what == "gradient" else x / 0


def network(what: str, bad: int = 5) -> nn.Module:
    torch.manual_seed(0)
    layers = {"first": nn.Linear(64, 12), "spoiled": Spoiler(what, bad), "last": nn.Linear(12, 10)}
    sequence = nn.Sequential()
    sequence.add_module("flat", nn.Flatten())
    for name, layer in layers.items():
        sequence.add_module(name, layer)
    return sequence


def run(prepared: Prepared) -> tuple[NonFiniteLoss, list[StepDone], dict[str, torch.Tensor]]:
    """The error, the steps before it, and the weights after the last of them."""
    steps: list[StepDone] = []
    before = parameters(prepared)
    try:
        for event in events_of(prepared):
            assert isinstance(event, StepDone)
            steps.append(event)
            before = parameters(prepared)
    except NonFiniteLoss as error:
        return error, steps, before
    raise AssertionError("nothing was noticed")


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("gradient", "first in the gradient that spoiled (Spoiler) passes back"),
        ("output", "first in the output of spoiled (Spoiler)"),
    ],
)
@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "muon", "lamb"])
def test_it_is_caught_at_the_step_with_the_layer(what: str, says: str, optimizer: str) -> None:
    prepared = prepare(asked_for(**PLAIN, optim__name=optimizer), network(what, bad=5))
    prepared.state.module.spoiled.calls = 0  # type: ignore[union-attr]
    error, steps, before = run(prepared)
    assert says in error.got
    assert "step 5 in epoch 1" in error.where
    assert len(steps) == 4
    assert (error.facts["step"], error.facts["epoch"], error.facts["layer"]) == (5, 1, "spoiled")
    assert error.facts["lr"] == prepared.state.optimizer.param_groups[-1]["lr"]
    assert len(error.facts["samples"]) == 64
    assert set(error.facts["samples"]) <= set(prepared.splits["train"].ids.tolist())
    for name, weight in parameters(prepared).items():
        assert torch.equal(weight, before[name]), "the weights have followed it"
    refuse_state = partial(refuse_nonfinite_state, prepared.state)
    prepared.state.fault = None
    refuse_state()
    assert all(word in error.remedy for word in ("--lr", "--optim.clip 1", "--plan plain"))


def test_a_bad_sample_is_named() -> None:
    prepared = prepare(asked_for(data="boston", model__name="mlp(8)", **PLAIN))
    train = prepared.splits["train"]
    assert isinstance(train.inputs, torch.Tensor)
    train.inputs[7] = torch.nan
    error, _, _ = run(prepared)
    assert "the input batch has NaN or Inf" in error.got
    assert error.facts["samples"] == [int(train.ids[7])]
    assert f"of sample {int(train.ids[7])}" in error.got


def test_on_an_accelerator_the_step_and_layer_are_the_same(monkeypatch) -> None:
    """Where nobody looks at each step, fused optimizers leave out the bad one and all after it."""
    monkeypatch.setattr(detect, "checked_each_step", lambda _: False)
    prepared = prepare(asked_for(**PLAIN, optim__name="adamw"), network("gradient", bad=5))
    prepared.state.module.spoiled.calls = 0  # type: ignore[union-attr]
    running, kept = events_of(prepared), {}
    for _ in range(19):
        kept[prepared.state.step] = parameters(prepared)
        next(running)
    with pytest.raises(NonFiniteLoss, match="a gradient since the last check"):
        refuse_nonfinite_state(prepared.state)
    with pytest.raises(NonFiniteLoss, match="step 5 in epoch 1") as caught:
        next(running)
    assert "spoiled" in caught.value.got
    for name, weight in parameters(prepared).items():
        assert torch.equal(weight, kept[4][name]), "the weights have followed it"


def test_without_a_fused_optimizer_the_step_is_named_there(monkeypatch) -> None:
    monkeypatch.setattr(detect, "checked_each_step", lambda _: False)
    prepared = prepare(asked_for(**PLAIN, optim__name="muon"), network("gradient", bad=5))
    prepared.state.module.spoiled.calls = 0  # type: ignore[union-attr]
    with pytest.raises(NonFiniteLoss, match="step 5 in epoch 1") as caught:
        list(events_of(prepared))
    assert "no layer can be named" in caught.value.got


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("parts", [None, 16])
def test_the_gradients_of_steps_are_not_changed_by_the_look(parts: int | None, monkeypatch) -> None:
    looked = prepare(asked_for(**PLAIN, execution__micro_batch=parts))
    list(events_of(looked))
    monkeypatch.setattr("striate.training.nonfinite.detect.mark_nonfinite", lambda *_: None)
    blind = prepare(asked_for(**PLAIN, execution__micro_batch=parts))
    list(events_of(blind))
    for name, weight in parameters(looked).items():
        assert torch.equal(weight, parameters(blind)[name]), name


def test_a_weight_gradient_names_the_parameter() -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    inputs = torch.ones(5, 3)
    module[0].weight.register_hook(lambda gradient: gradient / 0)
    place = locate_nonfinite(module, inputs, lambda: module(inputs).sum().backward())
    assert (place.words, place.layer) == ("first in the gradient of 0.weight", "0")
    assert module[0].weight.grad is None


def test_a_gradient_from_behind_the_last_layer_is_the_losss() -> None:
    module = nn.Sequential(nn.Linear(3, 4))
    inputs = torch.ones(5, 3)
    place = locate_nonfinite(module, inputs, lambda: (module(inputs) * 0).sqrt().sum().backward())
    assert place.words == "first in the gradient that reaches 0 (Linear) from the next layer"


def test_a_layer_whose_forward_is_infinite_for_one_sample_names_its_row() -> None:
    module = nn.Sequential(nn.Identity(), nn.Linear(3, 4))
    inputs = torch.ones(5, 3)
    inputs[2] = 3e38
    with torch.no_grad():
        module[1].weight.fill_(2.0)
    place = locate_nonfinite(module, inputs, torch.no_grad()(lambda: module(inputs)))
    assert (place.layer, place.rows) == ("1", (2,))
    assert "output of 1 (Linear)" in place.words


def test_what_the_optimizer_remembers_is_looked_at_before_a_checkpoint() -> None:
    prepared = prepare(asked_for(**PLAIN, optim__name="adamw"))
    list(events_of(prepared))
    refuse_nonfinite_state(prepared.state)
    name, parameter = next(iter(prepared.state.module.named_parameters()))
    prepared.state.optimizer.state[parameter]["exp_avg_sq"][(0,) * parameter.ndim] = torch.inf
    with pytest.raises(NonFiniteLoss, match=f"exp_avg_sq of {name} in the optimizer"):
        refuse_nonfinite_state(prepared.state)


def half_precision(bad: int) -> Prepared:
    """fp16 as a GPU has it, on the CPU."""
    prepared = prepare(asked_for(**PLAIN, optim__name="sgd"), network("gradient", bad=10**9))
    execution = prepared.config.execution
    object.__setattr__(execution, "precision", "fp16")
    prepared.state.module.spoiled.calls, prepared.state.module.spoiled.bad = 0, bad  # type: ignore[union-attr]
    return prepared


def test_steps_that_the_scaler_skips_are_counted_and_no_error(monkeypatch) -> None:
    prepared = half_precision(bad=10**9)
    monkeypatch.setattr(prepared.state.module.spoiled, "bad", 3)
    happened = []
    for event in events_of(prepared):
        happened.append(event)
        if isinstance(event, StepDone) and event.step == 4:
            prepared.state.module.spoiled.bad = 10**9  # type: ignore[union-attr]
    row = happened[-1].row
    assert row.skipped_steps == row.flat()["skipped_steps"] == 2
    assert prepared.state.history[-1].skipped_steps == 2


def test_a_scaler_that_skips_every_step_is_an_error() -> None:
    with pytest.raises(NonFiniteLoss, match="at any scale"):
        list(events_of(half_precision(bad=1)))
    row = EpochRow(1, 5, 0.1, {}, {}, 1.0, 1, skipped_steps=4)
    refuse_only_skipped(row, 5)


def test_other_precisions_have_no_such_column() -> None:
    prepared = prepare(asked_for(**PLAIN))
    done = [event for event in events_of(prepared) if isinstance(event, EpochDone)]
    assert "skipped_steps" not in done[0].row.flat()
