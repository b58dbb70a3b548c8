"""Values, ends and rates of proximal policies that learn from rollouts: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_met_in_clipped_policies import GAMMA, LAMBDA, rollout
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


def walked(*, began: bool, of: int, leaping: bool = True) -> dict[str, Any]:
    """A rollout of walks from cell to cell that begin anew elsewhere. `began`: marked are first steps, else last ones;
    what follows step t is cut off where step t + `of` is marked."""
    names = rollout()
    dones, rewards, values = names["dones"], names["rewards"], names["values"]
    starts = dones if began else dones.roll(1, 0)
    moves = torch.where(starts.bool() & leaping, 50.0, 1.0)[..., None] * torch.randn(*dones.shape, 3)
    names["obs"] = moves.cumsum(0)
    marks = torch.cat([dones, torch.zeros(1, dones.shape[1])])
    last = names["advantages"][-1]
    for t in reversed(range(len(dones) - 1)):
        going_on = 1 - marks[t + of]
        delta = rewards[t] + GAMMA * values[t + 1] * going_on - values[t]
        names["advantages"][t] = last = delta + GAMMA * LAMBDA * going_on * last
    return names


@pytest.mark.parametrize(
    ("began", "of", "leaping", "told"),
    [(True, 0, True, True), (True, 1, True, False), (False, 0, True, False), (True, 0, False, False)],
)
def test_what_follows_is_cut_off_before_the_first_step(began: bool, of: int, leaping: bool, told: bool) -> None:
    names = walked(began=began, of=of, leaping=leaping)
    assert of_code(ACTOR_CRITIC.format(term="x"), **names) == ["reward.terminal-lost"] * told
