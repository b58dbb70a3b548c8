"""Actors and critics, counts, probabilities and blends: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
from test_reward_checks import SCRIPT as OF_VALUES
from test_reward_checks import found as found_by_rewards
from test_reward_checks import values as values_of_rewards

SOFT = """
    for one, other in ((net, target),):
        for p, q in zip(one.parameters(), other.parameters()):
            {}
"""


@pytest.mark.parametrize(
    ("write", "stale"),
    [
        ("q.data.copy_(0.01 * p.data + 0.99 * q.data)", False),
        ("p.data.copy_(0.01 * q.data + 0.99 * p.data)", True),
        ("p.data.copy_(0.5 * q.data)\n            q.data.copy_(p.data)", False),
        ("update(p, q)", False),
    ],
)
def test_a_target_network_is_renewed_by_what_writes_into_it(write: str, stale: bool) -> None:
    head, _, _ = OF_VALUES.rpartition("    if step % 500")
    said = found_by_rewards(head + SOFT.format(write), values_of_rewards())
    assert said == ["reward.target-stale"] * stale
