"""Checks of `reward.`: scripts and batches with one mistake each, and the healthy ones that they were made of."""

from __future__ import annotations

import ast
import copy
import importlib
import random
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import striate
from quick import few_quick
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.reward_code import is_environment
from striate.doctor.setup.script_source import ScriptSource

SCRIPT = """
target.load_state_dict(net.state_dict())
obs, _ = env.reset()
for step in range(20000):
    epsilon = max(0.05, 1 - step / 2000)
    if random.random() < epsilon:
        action = env.action_space.sample()
    else:
        action = net(torch.as_tensor(obs)).argmax().item()
    next_obs, reward, terminated, truncated, _ = env.step(action)
    done = terminated or truncated
    memory.append((obs, action, reward, next_obs, terminated))
    obs = next_obs
    if done:
        obs, _ = env.reset()
    batch = random.sample(memory, 32)
    s, a, r, s2, d = (torch.as_tensor(np.array(part)) for part in zip(*batch))
    with torch.no_grad():
        next_values = target(s2).max(1).values
        wanted = r + gamma * next_values * (1 - d.float())
    loss = nn.functional.mse_loss(net(s).gather(1, a[:, None])[:, 0], wanted)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 500 == 0:
        target.load_state_dict(net.state_dict())
"""
FAULTS: dict[str, tuple[str, str]] = {
    "reward.terminal-lost": (" * (1 - d.float())", ""),
    "reward.truncated-terminal": ("next_obs, terminated))", "next_obs, done))"),
    "reward.truncated-terminal, as it is stored": ("next_obs, terminated))", "next_obs, terminated or truncated))"),
    "reward.target-stale": ("    if step % 500 == 0:\n        target.load_state_dict(net.state_dict())\n", ""),
    "reward.target-stale, too rarely": ("step % 500 == 0", "step % 1000000 == 0"),
    "reward.no-exploration, never": ("max(0.05, 1 - step / 2000)", "0.0"),
    "reward.no-exploration, always": ("    epsilon = max(0.05, 1 - step / 2000)\n", ""),
    "reward.endless": ("gamma *", "1.0 * gamma *"),
    "optim.no-step": ("    optimizer.step()\n", ""),
    "optim.missing-zero-grad": ("    optimizer.zero_grad()\n", ""),
}


class Corridor:
    """Eight cells; the way out is at the right end."""

    action_space = SimpleNamespace(n=2)
    spec = SimpleNamespace(max_episode_steps=None)

    def reset(self) -> Any: ...

    def step(self, action: int) -> Any: ...


def transitions(count: int = 240) -> list[Any]:
    rng, rows, place = np.random.default_rng(0), list[Any](), 0
    while len(rows) < count:
        action = int(rng.random() < 0.7)
        after = max(0, place + 2 * action - 1)
        over = after == 7
        rows.append((np.eye(8, dtype=np.float32)[place], action, float(over), np.eye(8, dtype=np.float32)[after], over))
        place = 0 if over else after
    return rows


def values(**other: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    net = nn.Linear(8, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    return {
        "env": Corridor(), "net": net, "target": copy.deepcopy(net), "optimizer": optimizer, "gamma": 0.99,
        "memory": deque(transitions()), "random": random, "torch": torch, "nn": nn, "np": np, "epsilon": 0.9, **other,
    }  # fmt: skip


def found(text: str, names: dict[str, Any]) -> list[str]:
    tree = ast.parse(text)
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"dqn.py": tree}, names, ("dqn.py", loop.lineno, loop.end_lineno or 0), None)
    return [finding.code for finding in examine_rewards(source).findings]


@pytest.mark.parametrize("name", few_quick(list(FAULTS), list(FAULTS)))
def test_a_fault_in_a_script_is_named(name: str) -> None:
    right, wrong = FAULTS[name]
    assert right in SCRIPT
    head, _, tail = SCRIPT.rpartition(right) if name.startswith("reward.target") else SCRIPT.partition(right)
    names = values(gamma=1.0) if name == "reward.endless" else values()
    assert found(head + wrong + tail, names) == [name.partition(",")[0]]


@pytest.mark.parametrize("body", ["other(states)", "other.load_state_dict(net.state_dict())"])
def test_a_target_network_is_renewed_by_what_changes_it_and_not_by_what_asks_it(body: str) -> None:
    head, _, _ = SCRIPT.rpartition("    if step % 500")
    text = f"def update(other, states):\n    {body}\n{head}    update(target, s2)\n"
    assert found(text, values()) == ["reward.target-stale"] * ("states" in body)


def test_a_healthy_script_has_no_finding() -> None:
    assert found(SCRIPT, values()) == []
    soft = "    for p, q in zip(net.parameters(), target.parameters()):\n        q.data.lerp_(p.data, 0.01)\n"
    head, _, _ = SCRIPT.rpartition("    if step % 500")
    assert found(head + soft, values()) == []
    named = "    for one, other in ((net, target),):\n"
    for p, code in (("other.parameters()", []), ("[]", ["reward.target-stale"])):
        each = f"        for q, p in zip({p}, {p}):\n            q.data.lerp_(p.data, 0.01)\n"
        assert found(head + named + each, values()) == code


@pytest.mark.parametrize(
    ("code", "change"),
    [
        ("reward.off-by-one", lambda _, a, r, t, d: (t, a, r, t, d)),
        ("reward.scale", lambda s, a, r, t, d: (s, a, r * 1e4, t, d)),
        ("reward.terminal-lost", lambda s, a, r, t, _: (s, a, r, t, False)),
    ],
)
def test_a_fault_in_the_replay_buffer_of_a_script_is_named(code: str, change: Any) -> None:
    memory = deque(change(*row) for row in transitions())
    assert found(SCRIPT, values(memory=memory)) == [code]


def _step(net: nn.Module, batch: Any, optimizer: Any, loss: Any, *, masked: bool = True) -> torch.Tensor:
    s, a, r, after, d = batch
    with torch.no_grad():
        wanted = r + 0.9 * net(after).max(1).values * (1 - d if masked else 1)
    value: torch.Tensor = loss(net(s).gather(1, a[:, None])[:, 0], wanted)
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value


def _loader(rows: list[Any]) -> DataLoader[Any]:
    columns = [torch.as_tensor(np.array(column)) for column in zip(*rows, strict=True)]
    parts = [part.float() if k in (2, 4) else part for k, part in enumerate(columns)]
    return DataLoader(TensorDataset(*parts), 32, shuffle=True, generator=torch.Generator().manual_seed(0))


def _diagnosed(rows: list[Any], *, masked: bool = True) -> list[str]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> torch.Tensor:
        return _step(model, batch, optimizer, loss, masked=masked)

    diagnosis = striate.diagnose(
        net, _loader(rows), loss=functional.mse_loss, step=step, task="control", budget_seconds=10,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
    )  # fmt: skip
    return [finding.code for finding in diagnosis.findings if finding.code.startswith("reward.")]


@pytest.mark.slow
def test_batches_of_transitions_are_examined() -> None:
    rows = transitions(600)
    assert _diagnosed(rows) == []
    assert _diagnosed(rows, masked=False) == ["reward.terminal-lost"]


@pytest.mark.slow
def test_faults_in_batches_of_transitions_are_named() -> None:
    rows = transitions(1200)
    assert _diagnosed([(s, a, r, t, False) for s, a, r, t, d in rows]) == ["reward.terminal-lost"]
    assert _diagnosed([(t, a, r, t, d) for s, a, r, t, d in rows]) == ["reward.off-by-one"]
    assert _diagnosed([(s, a, r * 0, t, d) for s, a, r, t, d in rows]) == ["reward.never-seen"]
    assert _diagnosed([(s, a, r * 1e4, t, d) for s, a, r, t, d in rows]) == ["reward.scale"]


OWN = """
class Grid:
    def reset(self):
        return 0, {}
    def step(self, action):
        return 0, 1.0, False, False, {}
class Meter:
    def reset(self):
        self.sum = 0
    def step(self, value):
        self.sum += value
"""


def test_an_environment_of_ones_own_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_grid.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("own_grid")
    assert is_environment(own.Grid())
    assert not is_environment(own.Grid)
    assert not is_environment(own.Meter())
    assert not is_environment(DataLoader([1]))


@pytest.mark.parametrize("column", [True, False])
def test_values_in_a_column_are_compared_with_all_targets(column: bool) -> None:
    text = "for step in range(9):\n    loss = nn.functional.mse_loss(wanted, values)\n"
    names = {"nn": nn, "wanted": torch.zeros(8), "values": torch.zeros(8, 1) if column else torch.zeros(8)}
    source = ScriptSource({"train.py": ast.parse(text)}, names, ("train.py", 1, 2), None)
    codes = [finding.code for finding in examine_rewards(source).findings]
    assert codes == ["loss.broadcast"] * column


@pytest.mark.parametrize("stored", [True, False])
def test_a_new_episode_may_begin_where_the_last_one_ended(stored: bool) -> None:
    """A grid of 12 cells: a reset that changes nothing joins two episodes of 9 steps in what can be seen."""
    rows, chance = list[Any](), random.Random(0)
    place = 0
    while len(rows) < 600:
        place, length = (place if chance.random() < 0.2 else chance.randrange(12)), chance.choice([3, 5, 9, 9, 9])
        for t in range(length):
            after = (place + 1) % 12
            rows.append((np.eye(12)[place], 0, 0.1, np.eye(12)[after], stored and length < 9 and t == length - 1))
            place = after
    source = ScriptSource(
        {"train.py": ast.parse("for t in x:\n    pass\n")}, {"memory": rows}, ("train.py", 1, 2), None
    )
    codes = [finding.code for finding in examine_rewards(source).findings]
    assert ("reward.terminal-lost" not in codes) is stored


@pytest.mark.parametrize(("longest", "right"), [(5, True), (9, False)])
def test_episodes_that_a_limit_ended_are_not_marked(longest: int, right: bool) -> None:
    rows, random_lengths = list[Any](), random.Random(0)
    while len(rows) < 200:
        length = random_lengths.randint(5, longest)
        rows += [(np.array([t, len(rows)]), 0, 0.1, np.array([t + 1, len(rows)]), False) for t in range(length)]
    source = ScriptSource(
        {"train.py": ast.parse("for t in x:\n    pass\n")}, {"memory": rows}, ("train.py", 1, 2), None
    )
    codes = [finding.code for finding in examine_rewards(source).findings]
    assert ("reward.terminal-lost" not in codes) is right
