"""`reward.never-seen`, `reward.scale`, `reward.off-by-one`: the script's replay buffer at the first step."""

from __future__ import annotations

import ast
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from for_checks.rewards import ACTOR_CRITIC, Memory, of_code
from striate.doctor.checks.reward.replay_buffer import REPLAY_BUFFER, find_replay_buffer
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.script_source import ScriptSource


def grid(limit: int, others: int) -> list[Any]:
    """Transitions of episodes of `limit` steps, each third one of `others`; the second begins where the first ended."""
    rows, chance, place = list[Any](), random.Random(0), np.zeros(2)
    for episode in range(8):
        place = place if episode == 1 else np.array([chance.random(), episode])
        for _ in range(others if episode % 3 == 2 else limit):
            rows.append((place, 0, 0.1, place + 1, False))
            place = place + 1
    return rows


@pytest.mark.parametrize(("others", "lost"), [(20, False), (13, True)])
def test_two_episodes_that_a_limit_ended_may_look_like_one(others: int, lost: bool) -> None:
    names = {"memory": grid(20, others)}
    assert find_replay_buffer(names) is not None
    source = ScriptSource({"train.py": ast.parse("for t in x:\n    pass\n")}, names, ("train.py", 1, 2), None)
    codes = [finding.code for finding in examine_rewards(source).findings]
    assert codes.count("reward.terminal-lost") == lost


STEPS, ENVIRONMENTS, GAMMA, LAMBDA = 64, 4, 0.97, 0.95


def rollout(*, masked: bool = True, late: bool = False, ends: float = 0.1) -> dict[str, Any]:
    """What a script has at its first step: observations, ends and values of each step, and generalized advantages.
    `late`: observations are those after it."""
    torch.manual_seed(0)
    agent = nn.ModuleDict({"critic": nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))})
    seen = torch.randn(STEPS + 1, ENVIRONMENTS, 3)
    with torch.no_grad():
        estimates = agent["critic"](seen)[..., 0]
    dones = (torch.rand(STEPS, ENVIRONMENTS) < ends).float()
    rewards, advantages, last = torch.rand(STEPS, ENVIRONMENTS), torch.zeros(STEPS, ENVIRONMENTS), torch.zeros(1)
    for t in reversed(range(STEPS)):
        going_on = 1 - dones[t] if masked else 1.0
        delta = rewards[t] + GAMMA * estimates[t + 1] * going_on - estimates[t]
        advantages[t] = last = delta + GAMMA * LAMBDA * going_on * last
    return {
        "agent": agent, "obs": seen[1:] if late else seen[:-1], "values": estimates[:-1], "rewards": rewards,
        "dones": dones, "advantages": advantages, "reward": np.zeros(ENVIRONMENTS),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["advantages", "returns", "lists"])
@pytest.mark.parametrize("masked", [True, False])
def test_returns_do_not_run_on_over_ends(masked: bool, kind: str) -> None:
    names = rollout(masked=masked)
    if kind != "advantages":
        names["returns"] = names.pop("advantages") + names["values"]
    if kind == "lists":
        names |= {name: list(names[name]) for name in ("rewards", "values", "dones", "returns")}
    assert of_code(ACTOR_CRITIC.format(term="x"), **names) == ["reward.terminal-lost"] * (not masked)


def test_an_episode_without_an_end_needs_no_mask() -> None:
    assert of_code(ACTOR_CRITIC.format(term="x"), **rollout(masked=False, ends=0.0)) == []


@pytest.mark.parametrize("late", [True, False])
def test_observations_of_a_rollout_are_those_of_its_values(late: bool) -> None:
    assert of_code(ACTOR_CRITIC.format(term="x"), **rollout(late=late)) == ["reward.off-by-one"] * late


@pytest.mark.parametrize("one_array", [True, False])
def test_observations_that_are_equal_since_nothing_happens_are_no_fault(one_array: bool) -> None:
    kept = np.ones(4)
    rows = [(kept if one_array else kept.copy(), 0, 0.0, kept if one_array else kept.copy(), False) for _ in range(60)]
    found = find_replay_buffer({"memory": rows})
    assert found is not None
    assert found[1].one_array == one_array
    columns = np.ones((60, 4))
    buffer = SimpleNamespace(observations=columns, next_observations=columns, rewards=np.zeros(60), pos=60)
    found = find_replay_buffer({"rb": buffer})
    assert found is not None
    assert not found[1].one_array


def test_a_column_of_rewards_is_read() -> None:
    """Whose rows are arrays of one number."""
    rows = np.random.default_rng(0).normal(size=(61, 4)).astype(np.float32)
    buffer = SimpleNamespace(
        observations=rows[:-1], next_observations=rows[1:], rewards=np.ones((60, 1)), dones=np.zeros((60, 1))
    )
    read_there = find_replay_buffer({"rb": buffer})
    assert read_there is not None
    assert read_there[1].rewards.shape == (60,)


class Agent:
    def __init__(self, reward: float, same: bool) -> None:
        self.memory = Memory(reward, same)


@pytest.mark.parametrize(
    ("reward", "same", "codes"),
    [(1.0, False, []), (1000.0, False, ["reward.scale"]), (1.0, True, ["reward.off-by-one"])],
)
def test_the_replay_buffer_of_an_agent(reward: float, same: bool, codes: list[str]) -> None:
    source = ScriptSource({"t.py": ast.parse("pass")}, {"agent": Agent(reward, same)}, ("t.py", 1, 1), None)
    evidence: Any = SimpleNamespace(source=source)
    assert [one.code for one in REPLAY_BUFFER.run(evidence)] == codes


def test_the_replay_buffer_of_a_library() -> None:
    """Whose objects are looked at where a variable holds them."""
    rows = Memory(1.0, same=False).memory
    arrays = {"obs": "state", "next_obs": "next_state", "rewards": "reward", "dones": "done"}
    library = SimpleNamespace(**{name: np.array([getattr(row, part) for row in rows]) for name, part in arrays.items()})
    assert find_replay_buffer({"buffer": library}) is not None
    assert find_replay_buffer({"buffer": SimpleNamespace(rows=rows)}) is not None


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


def test_what_was_never_stored_is_no_transition() -> None:
    class Buffer:
        def __init__(self) -> None:
            self.observations, self.next_observations = np.zeros((500, 3)), np.zeros((500, 3))
            self.rewards, self.terminated = np.zeros(500), np.zeros(500)

    buffer, walk = Buffer(), np.random.default_rng(0).normal(size=(61, 3))
    buffer.observations[:60], buffer.next_observations[:60], buffer.rewards[:60] = walk[:-1], walk[1:], 1
    found = find_replay_buffer({"buffer": buffer})
    assert found is not None
    assert len(found[1]) == 60


class Buffer:
    def __init__(self, filled: int) -> None:
        rng = np.random.default_rng(0)
        self.obs, self.next_obs = np.zeros((500, 4), np.float32), np.zeros((500, 4), np.float32)
        self.obs[:filled], self.next_obs[:filled] = rng.normal(size=(2, filled, 4))
        self.rewards, self.dones = np.full(500, -0.01), np.zeros(500, bool)
        self.size, self.position, self.full = 500, filled, filled == 500


@pytest.mark.parametrize("filled", [100, 500])
def test_of_a_replay_buffer_what_is_filled_is_read(filled: int) -> None:
    told = find_replay_buffer({"buffer": Buffer(filled if filled < 500 else 500)})
    assert told is not None
    assert len(told[1].rewards) == filled
