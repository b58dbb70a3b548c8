"""Values, ends and rates of proximal policies that learn from rollouts: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

import pytest
import torch
from test_policy_sign import ACTOR_CRITIC, of_code

SQUARED = "policy_loss(x) + 0.5 * ((newvalue - b_returns[mb_inds]) ** 2).mean()"


@pytest.mark.parametrize("shape", [(8, 1), (8,)])
def test_values_beside_rows_of_returns(shape: tuple[int, ...]) -> None:
    names = {"newvalue": torch.zeros(shape), "b_returns": torch.ones(32), "mb_inds": torch.arange(8)}
    assert of_code(ACTOR_CRITIC.format(term=SQUARED), **names) == ["loss.broadcast"] * (len(shape) == 2)


def test_rows_and_columns_that_are_meant_to_meet() -> None:
    pairs = "((points[:, None] - points[rows]) ** 2).mean()"
    assert of_code(ACTOR_CRITIC.format(term=pairs), points=torch.ones(8), rows=torch.arange(8)) == []
