"""Evaluations in which a network is given inputs of another scale than in training, and would be right with that."""

from __future__ import annotations

from collections.abc import Callable

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
