"""Evaluations in which a network is given inputs of another scale than in training, and would be right with that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from torch import Tensor

from for_checks.own_runs import watched_run
from striate.doctor.checks.own_run import findings_of


@pytest.mark.parametrize(
    ("prepare", "wrong"),
    [
        (lambda x: x, False),
        (lambda x: 2.0 * x + 2.5, True),  # `x - mean / std`
        (lambda x: 2.0 * x, False),  # as right as before
        (lambda x: 1.2 * x + 0.2, False),
        (lambda x: -2.0 * x, False),  # of another kind
    ],
)
def test_inputs_are_brought_to_the_scale_of_training(prepare: Callable[[Tensor], Tensor], wrong: bool) -> None:
    found = findings_of(watched_run(prepare))
    assert [one.code for one in found] == ["data.shift"] * wrong
    assert all("mean and deviation of training" in one.measured for one in found)


@pytest.mark.parametrize(
    ("scale", "said", "wrong"),
    [(0.3, "test acc: 0.41", True), (0.3, "test acc: 0.97", False), (1.0, "test acc: 0.41", False)],
)
def test_predictions_after_training_have_its_scale(scale: float, said: str, wrong: bool) -> None:
    run = watched_run(lambda x: x)
    run.printed += [(step, f"val acc 0.{step}") for step in (80, 90, 95)]
    (model,) = (network for network in run.networks.values() if network.name == "model")
    last = [call for call in model.calls if not call.learns][-1]
    model.calls.append(replace(last, deviation=scale * last.deviation, steps=run.steps))
    run.printed.append((run.steps, said))
    assert [one.code for one in findings_of(run)] == ["data.shift"] * wrong
