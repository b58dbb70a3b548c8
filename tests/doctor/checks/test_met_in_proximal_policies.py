"""Values, ends and rates of proximal policies that learn from rollouts: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

import pytest
import torch
from test_policy_sign import ACTOR_CRITIC, of_code

from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import OwnRun

SQUARED = "policy_loss(x) + 0.5 * ((newvalue - b_returns[mb_inds]) ** 2).mean()"


@pytest.mark.parametrize("shape", [(8, 1), (8,)])
def test_values_beside_rows_of_returns(shape: tuple[int, ...]) -> None:
    names = {"newvalue": torch.zeros(shape), "b_returns": torch.ones(32), "mb_inds": torch.arange(8)}
    assert of_code(ACTOR_CRITIC.format(term=SQUARED), **names) == ["loss.broadcast"] * (len(shape) == 2)


def test_rows_and_columns_that_are_meant_to_meet() -> None:
    pairs = "((points[:, None] - points[rows]) ** 2).mean()"
    assert of_code(ACTOR_CRITIC.format(term=pairs), points=torch.ones(8), rows=torch.arange(8)) == []


@pytest.mark.parametrize(
    ("rates", "ended", "told"),
    [
        ([1.0] * 16 + [0.0] * 496, True, True),
        ([1.0] * 16 + [0.0] * 496, False, True),
        ([1.0] * 16 + [0.01] * 496, False, False),
        ([1.0] * 16 + [0.0] * 40, False, False),
        ([1.0 - step / 512 for step in range(512)], True, False),
        ([0.0] * 512, True, False),
    ],
)
def test_a_rate_that_is_gone_after_the_first_update(rates: list[float], ended: bool, told: bool) -> None:
    found = findings_of(OwnRun(steps=len(rates), rates={0: rates}, ended=ended), of_rewards=True)
    assert [finding.code for finding in found] == ["optim.lr-schedule"] * told
