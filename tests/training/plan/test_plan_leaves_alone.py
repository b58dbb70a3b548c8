"""Planning leaves the network, its gradients and the random states as they are, whatever a copy reaches for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from short_runs import asked_for
from torch import nn

import striate
from striate.errors import ModelError, TrainingError
from striate.training.prepare import prepare


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("minutes", [None, 0.05])
@pytest.mark.parametrize("part", ["forward", "hook"])
def test_a_network_that_is_closed_over_stays_as_it_is(part: str, minutes: float | None) -> None:
    network = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.Flatten(), nn.Linear(6 * 36, 10))
    if part == "forward":
        plain = network.forward
        network.forward = lambda x: 2 * plain(x)  # type: ignore[method-assign]
    else:
        network[0].register_forward_hook(lambda _, __, out: network[1](out))
    network[3].weight.grad = torch.ones(10, 6 * 36)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    if minutes is None:
        with pytest.raises(TrainingError, match="shares parts with the original"):
            striate.plan_training("digits", network, seconds=0.1)
    else:
        prepared = prepare(asked_for(epochs=None, budget__minutes=minutes, batch=32), network)
        assert any("shares parts with the original" in note for note in prepared.notes)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert torch.equal(gradients.pop("3.weight"), torch.ones(10, 6 * 36))  # type: ignore[arg-type]
    assert set(gradients.values()) == {None}


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_computed_whatever_the_caller_computes(mode: Callable[[], AbstractContextManager[None]]) -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))
    with mode():
        assert striate.plan_training("digits", "conv(4,3) relu gap fc(10)", seconds=0.1).record.rows
        assert striate.plan_training("digits", network, seconds=0.1).record.rows


def test_numbers_of_another_format_are_told_in_plain_words() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    with pytest.raises(ModelError, match=r"(?s)weights in float64.*model\.float\(\)"):
        striate.plan_training("digits", network, seconds=0.1)


def test_a_network_that_striate_builds_is_float32_whatever_the_caller_has_set() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert striate.plan_training("digits", "conv(4,3) relu gap fc(10)", seconds=0.1).record.rows
        with torch.no_grad():
            run = striate.train("digits", "mlp(4)", epochs=1, out="r", set={"execution.plan": "plain"})
        assert striate.load(run).predict(np.zeros((8, 8), np.uint8)).label
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.is_grad_enabled()
