"""The replay buffer keeps each frame once, within its memory, and gives back what was played."""

from __future__ import annotations

import numpy as np

from striate.data.environments.vectorized import Environments
from striate.tasks.control.replay import Replay

CATCH = "gym:striate/Catch-v0"


def played_into(replay: Replay, steps: int, limit: int | None = None) -> list[dict[str, np.ndarray]]:
    """What was seen at each step, kept apart."""
    count, stack = replay.frames.shape[1], replay.stack
    environments, kept = Environments(CATCH, count, seed=1, stack=stack, limit=limit), []
    environments.reset()
    rng = np.random.default_rng(0)
    for _ in range(steps):
        seen, frames = environments.stacked.copy(), environments.frames.copy()
        actions = rng.integers(0, 3, count)
        result = environments.step(actions)
        replay.add(frames, actions, result)
        kept.append({"seen": seen, "actions": actions, "rewards": result.rewards, "over": result.over})
    return kept


def test_a_sample_is_what_was_played() -> None:
    replay = Replay((10, 5, 2), 3, 4, 2, megabytes=1, most=150)
    kept = played_into(replay, 180)
    assert replay.rows == 50
    steps = np.arange(replay.oldest, replay.newest)
    for number in range(3):
        numbers = np.full(len(steps), number)
        expected = np.stack([kept[step]["seen"][number] for step in steps])
        assert np.array_equal(replay.stacked(steps, numbers), expected)


def test_transitions_are_of_the_step_that_they_name() -> None:
    """Off by one, a reward belongs to another action, or a state to another step."""
    replay = Replay((10, 5, 2), 2, 1, 3, megabytes=1, most=400)
    kept = played_into(replay, 150)
    drawn = replay.sample(200, np.random.default_rng(0))
    known = {
        (entry["seen"][n].tobytes(), int(entry["actions"][n])): (k, n) for k, entry in enumerate(kept) for n in range(2)
    }
    for before, action, rewards, terminated, after in zip(*drawn, strict=True):
        k, n = known[before.tobytes(), int(action)]
        over = terminated.argmax() if terminated.any() else None
        assert rewards[0] == kept[k]["rewards"][n]
        if over is None:  # in Catch, what follows without an end is a function of the state: the ball is lower
            assert after[..., 1].argmax() // 5 == before[..., 1].argmax() // 5 + 3


def test_windows_that_a_truncation_cuts_are_not_sampled() -> None:
    replay = Replay((10, 5, 2), 2, 1, 2, megabytes=1, most=400)
    played_into(replay, 100, limit=4)
    drawn = replay.sample(500, np.random.default_rng(0))
    assert not drawn.terminated.any()
    rows = drawn.before[..., 1].reshape(500, -1).argmax(axis=1) // 5
    assert set(rows.tolist()) == {0, 1}  # the third and fourth step of an episode of four would reach beyond it


def test_the_memory_is_what_was_stated() -> None:
    replay = Replay((84, 84, 1), 8, 4, 3, megabytes=50, most=10**6)
    assert 45e6 < replay.nbytes <= 50e6
    assert Replay((10, 10, 4), 8, 1, 3, megabytes=500, most=800).rows == 100
