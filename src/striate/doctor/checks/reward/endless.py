"""`reward.endless`: are values finite sums?"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import numpy as np

from striate.doctor.checks.check import Check
from striate.doctor.checks.reward.replay_buffer import find_replay_buffer
from striate.doctor.checks.reward.target_stale import bootstraps_of
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.reward_code import environment_steps
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.syntax import receiver_of
from striate.records import Finding

_EPISODES, _AS_LONG = 5, 3.0


def _endless(evidence: Evidence) -> Iterator[Finding]:
    source, known = bootstraps_of(evidence)
    for bootstrap in known:
        value = source.value(bootstrap.discount)
        if not isinstance(value, int | float) or value < 1:
            continue
        limits = [_limit(source, node) for node in environment_steps(source)]
        if value == 1 and (any(limit is not None for limit in limits) or _ends_by_itself(source)):
            continue
        yield ENDLESS.finding(
            severity="error" if value > 1 else "warning",
            where=source.where(bootstrap.node),
            measured=f"`{ast.unparse(bootstrap.discount)}` is {value:g}, and the environment has no step limit",
            why="The value of a state is a sum over all later rewards: if episodes may never end, it grows as long "
            "as training lasts.",
            remedy=f"`{ast.unparse(bootstrap.discount)} = 0.99`, or gymnasium.wrappers.TimeLimit(env, 1000)",
        )
        return


def _ends_by_itself(source: ScriptSource) -> bool:
    """Whether several episodes in the replay buffer end by themselves, after about the same number of steps."""
    found = find_replay_buffer(source.names)
    lengths = np.diff(np.flatnonzero(found[1].ends)) if found is not None else np.zeros(0)
    return len(lengths) >= _EPISODES and bool(lengths.max() <= _AS_LONG * np.median(lengths))


def _limit(source: ScriptSource, node: ast.Call) -> int | None:
    environment = source.value(receiver_of(node))
    limit = getattr(getattr(environment, "spec", None), "max_episode_steps", None)
    return limit if isinstance(limit, int) else getattr(environment, "_max_episode_steps", None)


ENDLESS = Check(
    codes=("reward.endless",),
    threshold="a discount below 1; or of 1 if a limit ends all episodes, or all have ended by themselves, none after "
    f"more than {_AS_LONG:g} times the usual steps",
    run=_endless,
    of_source=True,
    of_rewards=True,
)
