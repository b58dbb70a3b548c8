"""Typical mistakes in learning from rewards that replay buffers, settings and values show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from striate.data.counter_random import hash_key
from striate.data.environments.environment import Step
from striate.data.environments.experience import Experience, observation_shift, reward_shift, unmarked_resets
from striate.data.environments.open_environment import open_environment
from striate.records import Finding, Remedy
from striate.tasks.control.config import ControlConfig
from striate.tasks.control.network import action_values
from striate.tasks.control.replay import Replay
from striate.wording import percent, several, short_number

FEWEST_STEPS = 1000
"""Number of steps in which there must be a reward other than 0."""
SMALLEST, LARGEST = 0.02, 50.0
"""There is a finding on the scale of rewards if the largest is below the first, or the median of those other than 0
above the second: the usual losses are made for rewards around 1."""
FEWEST_RESETS = 3
CONSTANT = 0.5
"""Share of random actions at the end from which exploration does not decay."""
ABOVE = 3.0
"""A mean value is an overestimate from this multiple of the largest discounted return on."""
TELLS, BETTER = 0.9, 0.1
"""Area under the ROC curve with which changes of the observations predict rewards that are shifted by one step; and by
how much it must exceed that for rewards as recorded."""
REPLAYED = 2000
_PLAYED = "replay buffer"


def play_randomly(source: str, steps: int, limit: int | None = None) -> Experience:
    """`steps` steps of an environment with random actions, one episode after another."""
    environment, rng, rows = open_environment(source), np.random.default_rng(0), list[tuple[Any, ...]]()
    frame, length, limit = environment.reset(0), 0, limit or environment.game.limit
    while len(rows) < steps:
        step, length = environment.step(int(rng.integers(len(environment.game.actions)))), length + 1
        truncated = not step.terminated and (step.truncated or length >= limit)
        rows.append((frame.copy(), step.frame.copy(), step.reward, step.terminated, truncated))
        frame = step.frame
        if step.terminated or truncated:
            frame, length = environment.reset(len(rows)), 0
    seen, after, rewards, terminated, cut = (np.array(column) for column in zip(*rows, strict=True))
    return Experience(seen, after, rewards.astype(np.float64), terminated, cut)


def environment_findings(found: Experience, limit: int, where: str) -> Iterator[Finding]:
    """Findings on an environment by random play: the scale of its rewards, resets that are not marked, and a limit that
    is marked as an end. Missing rewards are no finding: random play may not reach any."""
    for finding in experience_findings(found, where):
        if finding.code in ("reward.scale", "reward.terminal-lost"):
            yield finding
    lengths = np.diff(np.flatnonzero(found.ends), prepend=-1)
    at_limit = found.terminated[found.ends] & (lengths == limit)
    if len(lengths) >= FEWEST_RESETS and at_limit.all():
        measured = (
            f"all of {several(len(lengths), 'episode')} are terminated after {several(limit, 'step')}, their limit"
        )
        yield truncated_terminal(where, measured)


def experience_findings(found: Experience, where: str = _PLAYED) -> Iterator[Finding]:
    """Findings on transitions in the order of time, of any program."""
    yield from reward_values(found.rewards, where)
    yield from _observations(found, where)
    yield from _terminals(found, where)
    yield from _shifted(found, where)


def reward_values(rewards: NDArray[np.float64], where: str) -> Iterator[Finding]:
    """`reward.never-seen` and `reward.scale`."""
    paid = np.abs(rewards[rewards != 0])
    if len(rewards) >= FEWEST_STEPS and not len(paid):
        yield _never_seen(where, f"all rewards of {several(len(rewards), 'step')} are 0")
    # A small cost of each step is intended, if the goal has a larger reward, which may not have been reached yet.
    least = 0.0 if len(rewards) and rewards.min() == rewards.max() < 0 else SMALLEST
    size = 1.0 if not len(paid) else float(np.median(paid)) if np.median(paid) > LARGEST else float(paid.max())
    if not least <= size <= LARGEST:
        what, which = ("huge", "their median is") if size > 1 else ("tiny", "the largest is")
        yield Finding(
            code="reward.scale",
            severity="warning",
            where=where,
            measured=f"rewards other than 0 are {what}: {which} {short_number(size)}",
            threshold=f"a median of {LARGEST:g} at most, and a largest reward of {SMALLEST:g} at least",
            why="Values and gradients scale with the rewards, but learning rate, clipping and the Huber loss are "
            "made for rewards around 1.",
            remedy=Remedy(
                f"reward = reward / {size:.3g}, before it goes into the buffer, or its sign",
                settings={"task.control.clip_rewards": True},
            ),
        )


def never_seen(history: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """`reward.never-seen` for a run, from its rows of metrics.csv."""
    returns = [row[f"{split}_return"] for row in history for split in ("train", "val")]
    steps = sum(row["train_steps"] for row in history)
    if steps >= FEWEST_STEPS and not any(returns):
        yield _never_seen("metrics.csv", f"all returns of {several(steps, 'step')} of training episodes are 0")


def _never_seen(where: str, measured: str) -> Finding:
    return Finding(
        code="reward.never-seen",
        severity="error",
        where=where,
        measured=measured,
        threshold=f"a reward other than 0 in {FEWEST_STEPS:,} steps",
        why="Without a reward no action is better than another: there is nothing to learn from.",
        remedy=Remedy(
            "Give rewards on the way to the goal, let episodes start nearer to it, or explore for longer.",
            settings={"task.control.explore_until": 0.5, "task.control.explore_end": 0.2},
            advice="an environment with rewards on the way to the goal",
        ),
    )


def _observations(found: Experience, where: str) -> Iterator[Finding]:
    shift = observation_shift(found)
    if shift in (None, 1):
        return
    assert shift is not None
    steps = several(abs(shift), "step")
    later = f"that of {steps} {'later' if shift > 1 else 'before the observation'}"
    yield observation_same(where, later if shift else "the observation itself")


def observation_same(where: str, what: str) -> Finding:
    """`reward.off-by-one` for observations: the next one is `what`."""
    return Finding(
        code="reward.off-by-one",
        severity="error",
        where=where,
        measured=f"the next observation of most transitions is {what}",
        threshold="the observation of the next step, in 4 of 5 transitions",
        why="The network learns the effect of an action from observations that the action did not lead to.",
        remedy="store the transition before the observation is replaced: "
        "buffer.add(observation, action, reward, following, terminated); observation = following",
    )


def _terminals(found: Experience, where: str) -> Iterator[Finding]:
    resets, unmarked = unmarked_resets(found) if observation_shift(found) == 1 else (0, 0)
    if resets < FEWEST_RESETS or unmarked <= resets / 2:
        return
    yield terminal_lost(where, f"{unmarked} of {several(resets, 'reset')} are not marked as the end of an episode")


def terminal_lost(
    where: str,
    measured: str,
    *,
    threshold: str = "the end of every episode is marked",
    remedy: str = "store `terminated` with each transition, and "
    "target = reward + gamma * (1 - terminated) * next_value",
) -> Finding:
    """`reward.terminal-lost`."""
    return Finding(
        code="reward.terminal-lost",
        severity="error",
        where=where,
        measured=measured,
        threshold=threshold,
        why="The value of an episode's last state is learned from the first state of the next episode: losing costs "
        "nothing, and values grow without limit.",
        remedy=remedy,
    )


def truncated_terminal(
    where: str,
    measured: str,
    *,
    threshold: str = "episodes that are truncated at a limit are not marked as terminated",
    remedy: str = "store `terminated` alone, not `terminated or truncated`, and bootstrap from the last observation of "
    "a truncated episode",
) -> Finding:
    """`reward.truncated-terminal`."""
    return Finding(
        code="reward.truncated-terminal",
        severity="warning",
        where=where,
        measured=measured,
        threshold=threshold,
        why="The network learns that nothing follows after a step limit that it cannot see.",
        remedy=remedy,
    )


def _shifted(found: Experience, where: str) -> Iterator[Finding]:
    found_shift = reward_shift(found)
    if found_shift is None:
        return
    shift, areas = found_shift
    if shift and areas[shift] >= TELLS and areas[shift] > areas[0] + BETTER:
        when = "later" if shift > 0 else "earlier"
        fits = f"changes in the observations predict rewards with an area under the ROC curve of {areas[shift]:.2f}"
        yield _late(
            where, f"{fits} if rewards are recorded one step {when} than earned, and {areas[0]:.2f} as recorded"
        )


def _late(where: str, measured: str) -> Finding:
    return Finding(
        code="reward.off-by-one",
        severity="error",
        where=where,
        measured=measured,
        threshold="each reward with the action that earned it",
        why="The action before or after the one that earned a reward gets the credit.",
        remedy="store what one call of env.step(action) returns, with the observation and the action that went into it",
    )


def setting_findings(config: ControlConfig, updates: int) -> Iterator[Finding]:
    """Findings on settings, after this number of updates."""
    start, end = config.explore_start, config.explore_end
    if config.algorithm != "planner" and max(start, end) <= 0:
        yield explores_never("settings", "actions are never random (epsilon is 0)")
    elif config.algorithm != "planner" and end >= CONSTANT:
        yield explores_always("settings", f"{percent(end)} of all actions are still random at the end")
    if config.algorithm == "dqn" and 0 < updates < config.target_every:
        measured = (
            f"{several(updates, 'update')} of the network, but the target network is updated only every "
            f"{config.target_every:,}"
        )
        yield stale_target("settings", measured, max(updates // 10, 1))


def explores_never(where: str, measured: str) -> Finding:
    """`reward.no-exploration` where the action with the largest value is always taken."""
    return Finding(
        code="reward.no-exploration",
        severity="error",
        where=where,
        measured=measured,
        threshold="some random actions",
        why="Actions that are never tried are never learned: the network keeps doing what it did first.",
        remedy=Remedy(
            "epsilon from 1 down to 0.05: action = env.action_space.sample() if random.random() < epsilon else best",
            settings={"task.control.explore_start": 1.0, "task.control.explore_end": 0.05},
        ),
    )


def explores_always(where: str, measured: str) -> Finding:
    """`reward.no-exploration` where the share of random actions does not decay."""
    return Finding(
        code="reward.no-exploration",
        severity="warning",
        where=where,
        measured=measured,
        threshold=f"less than {percent(CONSTANT)} at the end",
        why="Most observations come from random play; states that only a good player reaches are missing.",
        remedy=Remedy(
            "epsilon = max(0.05, 1 - step / (0.1 * steps)), at each step",
            settings={"task.control.explore_end": 0.05},
        ),
    )


def stale_target(where: str, measured: str, every: int) -> Finding:
    """`reward.target-stale`."""
    return Finding(
        code="reward.target-stale",
        severity="error",
        where=where,
        measured=measured,
        threshold="one update of the target network",
        why="All targets are values of the untrained network: only rewards within one return are learned, not later "
        "ones.",
        remedy=Remedy(
            f"if updates % {every} == 0: target.load_state_dict(network.state_dict())",
            settings={"task.control.target_every": every},
        ),
    )


@dataclass(frozen=True)
class Recorded:
    """The replay buffer of a run."""

    source: str
    """The environments, as `gym:ID`."""
    replay: Replay
    """The buffer."""
    begun: NDArray[np.int64]
    """(N,) number of episodes that each environment has begun by its end."""
    seed: int
    """Seed of the environments."""
    config: ControlConfig
    """Configuration of the run."""


def replayed_findings(recorded: Recorded) -> Iterator[Finding]:
    """Findings from replaying whole episodes of the buffer: environments are functions of seed and actions, so that
    each reward and each end must be the same."""
    rows, pairs = 0, list[tuple[Experience, Experience]]()
    for number in range(recorded.replay.frames.shape[1]):
        for pair in _episodes(recorded, number):
            if rows > REPLAYED:
                break
            pairs.append(pair)
            rows += len(pair[0])
    if not pairs:
        return
    kept, right = (np.concatenate([pair[side].rewards for pair in pairs]) for side in (0, 1))
    wrong: NDArray[np.bool_] = kept != right
    if wrong.any():
        shift = next((k for k in (1, -1) if (np.roll(right, k)[1:-1] == kept[1:-1]).mean() > 0.99), 0)
        how = {1: ", all of them one step late", -1: ", all of them one step early", 0: ""}[shift]
        of = f"{several(int(wrong.sum()), 'reward')} of {several(len(wrong), 'step')}"
        yield _late(_PLAYED, f"{of} differ when the same actions are played again{how}")
    lost = sum(bool(t.terminated[-1] and not n.terminated[-1]) for n, t in pairs)
    if lost:
        yield terminal_lost(
            _PLAYED, f"{lost} of {several(len(pairs), 'episode')} that ended are not marked as terminated"
        )
    cut = sum(bool(n.terminated[-1] and not t.terminated[-1]) for n, t in pairs)
    if cut:
        measured = f"{cut} of {several(len(pairs), 'episode')} are marked as terminated where the limit truncated them"
        yield truncated_terminal(_PLAYED, measured)


def _episodes(recorded: Recorded, number: int) -> Iterator[tuple[Experience, Experience]]:
    """For each whole episode of an environment, the newest first: the recorded experience and that of the replay,
    without frames."""
    replay, limit = recorded.replay, recorded.config.limit
    order = np.arange(max(replay.added - replay.rows, 0), replay.added) % replay.rows
    starts = np.flatnonzero(replay.first[order, number])
    environment, nothing = open_environment(recorded.source), np.zeros(0)
    for back, (begin, end) in enumerate(zip(starts[-2::-1], starts[:0:-1], strict=True)):
        rows = order[begin:end]
        environment.reset(hash_key(recorded.seed, number, int(recorded.begun[number]) - 2 - back))
        steps = list[Step]()
        for action in replay.actions[rows, number].tolist():
            if steps and steps[-1].over:
                break
            steps.append(environment.step(action))
        rewards = np.zeros(len(rows))
        rewards[: len(steps)] = [step.reward for step in steps]
        ends, cut = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
        ends[len(steps) - 1] = steps[-1].terminated
        cut[-1] = steps[-1].truncated or (limit is not None and len(rows) >= limit and not steps[-1].terminated)
        kept = Experience(
            nothing, nothing, replay.rewards[rows, number].astype(np.float64),
            replay.terminated[rows, number], replay.truncated[rows, number],
        )  # fmt: skip
        yield kept, Experience(nothing, nothing, rewards.astype(np.float32).astype(np.float64), ends, cut)


def value_findings(module: nn.Module, replay: Replay, config: ControlConfig) -> Iterator[Finding]:
    """A finding where the values of states in the buffer exceed what its rewards can add up to."""
    if len(replay) < FEWEST_STEPS // 4:
        return
    values = action_values(module, replay.sample(256, np.random.default_rng(0)).before).max(axis=1)
    filled = min(replay.added, replay.rows)
    order = np.arange(max(replay.added - replay.rows, 0), replay.added) % replay.rows
    rewards = np.sign(replay.rewards[order]) if config.clip_rewards else replay.rewards[order]
    over = (replay.terminated | replay.truncated)[order]
    returns = np.zeros_like(rewards, np.float64)
    ahead = np.zeros(rewards.shape[1])
    for row in range(filled - 1, -1, -1):
        ahead = returns[row] = rewards[row] + config.discount * ahead * ~over[row]
    yield from value_finding(
        values, float(np.abs(returns).max(initial=0)), float(np.abs(rewards).max(initial=0)), config
    )


def value_finding(
    values: NDArray[np.float32], largest: float, reward: float, config: ControlConfig
) -> Iterator[Finding]:
    """`reward.diverges`, where values (N,) are not finite, or larger than rewards of at most `reward`, and returns of
    at most `largest`, allow."""
    finite = np.isfinite(values).all()
    mean, bound = float(np.abs(values).mean()), reward / (1 - config.discount)
    # A good player reaches higher returns than those so far: only values far above them are overestimates.
    if finite and (mean <= bound or not reward) and mean <= ABOVE * largest + max(reward, 1.0):
        return
    seen = f"the mean value is {short_number(mean)}" if finite else "values are NaN or Inf"
    most = (
        f"rewards of at most {short_number(reward)} add up to {short_number(bound)} at a discount of "
        f"{config.discount:g}"
    )
    yield Finding(
        code="reward.diverges",
        severity="error" if not finite or mean > bound > 0 else "warning",
        where="values of actions",
        measured=f"{seen}; the largest discounted return in the buffer is {short_number(largest)}, and {most}",
        threshold=f"{ABOVE:g} times the largest discounted return, and what rewards can add up to",
        why="The maximum over noisy values is too large, and becomes a target again: values feed on themselves.",
        remedy=Remedy(
            "Let one network choose the action and the target network give its value (double Q-learning). Or lower "
            "the learning rate, or update the target network less often.",
            settings={"task.control.double": True},
            advice="a tenth of the learning rate",
        ),
    )


def endless_findings(config: ControlConfig, truncated: float, where: str = "validation episodes") -> Iterator[Finding]:
    """`reward.endless`, where most episodes are truncated and rewards are hardly discounted."""
    assert config.limit is not None, "decided before"
    horizon = 1 / (1 - config.discount)
    if truncated <= 0.5 or horizon <= config.limit:
        return
    yield Finding(
        code="reward.endless",
        severity="warning",
        where=where,
        measured=f"{percent(truncated)} of episodes are truncated at {config.limit:,} steps, but with a discount of "
        f"{config.discount:g} rewards count for {short_number(horizon)} steps",
        threshold="a horizon 1 / (1 - discount) within the step limit, if most episodes do not end by themselves",
        why="Values are sums over more steps than any episode has: they grow as long as training lasts.",
        remedy=Remedy("gamma = 0.99", settings={"task.control.discount": 0.99}),
    )
