"""What values are learned from agrees with the definitions, and a wrong one shows on a chain whose values are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from striate.data.environments.vectorized import Steps
from striate.reference import lambda_return, n_step_return
from striate.tasks.control.replay import Replay
from striate.tasks.control.targets import lambda_returns, n_step_targets, next_values


@pytest.mark.parametrize("trace", [0.0, 0.65, 1.0])
def test_lambda_returns_agree_with_their_definition(trace: float) -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.normal(size=(2, 12, 5))
    terminated = rng.random((12, 5)) < 0.2
    truncated = ~terminated & (rng.random((12, 5)) < 0.2)
    given = [torch.from_numpy(x) for x in (rewards, values, terminated, terminated | truncated)]
    found = lambda_returns(*given, discount=0.9, trace=trace).numpy()
    for n in range(5):
        columns = (x[:, n] for x in (rewards, values, terminated, truncated))
        np.testing.assert_allclose(found[:, n], lambda_return(*columns, 0.9, trace), rtol=1e-12)


def test_n_step_targets_agree_with_their_definition() -> None:
    rng = np.random.default_rng(1)
    rewards, values, terminated = rng.normal(size=(40, 4)), rng.normal(size=40), rng.random((40, 4)) < 0.2
    found = n_step_targets(*map(torch.from_numpy, (rewards, terminated, values)), discount=0.8).numpy()
    expected = [n_step_return(*row, 0.8) for row in zip(rewards, terminated, values, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_double_learning_takes_the_value_of_the_action_that_the_network_chooses() -> None:
    online, target = torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([[5.0, 4.0], [6.0, 7.0]])
    assert next_values(online, target, double=True).tolist() == [4.0, 6.0]
    assert next_values(online, target, double=False).tolist() == [5.0, 7.0]


def learned_values(length: int, n: int, *, lose_the_flag: bool = False) -> np.ndarray:
    """The values of a chain of states, each followed by the next and a reward of 1 after the last, learned from a
    replay buffer by its targets until they change no more; planted: the terminal flag is lost."""
    replay = Replay((1, 1, 1), 1, 1, n, megabytes=1, most=1000)
    for k in range(40 * length):
        over = np.array([k % length == length - 1])
        none = np.zeros(1, bool)
        flag = none if lose_the_flag else over
        steps = Steps(np.zeros(1), np.zeros(1), over.astype(np.float32), flag, none, ())
        replay.add(np.full((1, 1, 1, 1), k % length, np.uint8), np.zeros(1, np.int64), steps)
    values, rng = torch.zeros(length), np.random.default_rng(0)
    for _ in range(300):
        drawn = replay.sample(64, rng)
        before, after = (torch.from_numpy(x[:, 0, 0, 0].astype(np.int64)) for x in (drawn.before, drawn.after))
        given = (torch.from_numpy(drawn.rewards), torch.from_numpy(drawn.terminated))
        values[before] = n_step_targets(*given, values[after], 0.9)
    return values.numpy()


@pytest.mark.parametrize("n", [1, 3])
def test_the_values_of_a_chain_are_those_that_are_known(n: int) -> None:
    np.testing.assert_allclose(learned_values(5, n), 0.9 ** np.arange(4, -1, -1), rtol=1e-5)


@pytest.mark.parametrize("n", [1, 3])
def test_a_terminal_flag_that_is_lost_shows_on_the_chain(n: int) -> None:
    wrong = learned_values(5, n, lose_the_flag=True)
    assert np.abs(wrong - 0.9 ** np.arange(4, -1, -1)).max() > 0.5
