"""What the code and the variables of actor-critic scripts say whose rollouts are recorded by name."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.reward_code import is_environment
from striate.doctor.setup.script_source import ScriptSource

CARTS = """
class Carts:
    def step(self, action):
        self.x = self.x + action
        fallen = abs(self.x) > 2.4
        return self.x, reward, fallen, fallen | (self.age > 99)
class Trainer:
    def step(self, batch):
        return loss, batch, accuracy
"""
ROLLOUT = """
@torch.no_grad()
def rollout(net, carts):
    record = {name: [] for name in names}
    for _ in range(16):
        observation = carts.observe()
        policy, value = net(observation)
        action = policy.sample()
        last, reward, fallen, done = carts.step(action)
        next_value = net(last)[1]
        for name, item in zip(names, (observation, action, reward, fallen, done, value, next_value)):
            record[name].append(item)
    return {name: torch.stack(items) for name, items in record.items()}
"""
KEYS = """
def advantages(record):
    delta = record["reward"] + gamma * record["next_value"] * (1 - record["fallen"]) - record["value"]
    for t in reversed(range(len(delta))):
        running = delta[t] + gamma * 0.95 * (1 - record["done"][t]) * running
    return delta
"""
LOOP = """
for update in range(99):
    record = rollout(net, carts)
    advantage = advantages(record)
    returns = advantage + record["value"]
    policy, value = net(record["observation"])
    log_prob = policy.log_prob(record["action"])
    loss = -(log_prob * advantage).mean() + functional.mse_loss(value, returns)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
LISTS = """
def gae(rewards, values, following, ends):
    return rewards + gamma * following * (1 - ends) - values
for update in range(99):
    values, next_values = [], []
    for _ in range(16):
        last, reward, fallen, done = carts.step(action)
        next_values.append(net(torch.as_tensor(last))[1])
    adv = gae(rewards, values, next_values, ends)
    optimizer.step()
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_carts.py").write_text(CARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("own_carts")


def found(own: Any, text: str, **names: Any) -> list[str]:
    tree = ast.parse(text if "class Carts" in text else CARTS + text)
    loop = next(node for node in tree.body if isinstance(node, ast.For))
    known = {"carts": own.Carts(), "net": nn.Linear(4, 2), "gamma": 0.98, "torch": torch, "functional": functional}
    source = ScriptSource({"a2c.py": tree}, {**known, **names}, ("a2c.py", loop.lineno, loop.end_lineno or 0), None)
    return [finding.code for finding in examine_rewards(source).findings]


def test_an_environment_may_begin_anew_by_itself(own: Any) -> None:
    assert is_environment(own.Carts())
    assert not is_environment(own.Trainer())


@pytest.mark.parametrize(
    ("text", "mask"), [(ROLLOUT + KEYS + LOOP, ' * (1 - record["fallen"])'), (LISTS, " * (1 - ends)")]
)
def test_a_recorded_value_of_what_follows_needs_a_mask(own: Any, text: str, mask: str) -> None:
    assert found(own, text) == []
    assert found(own, text.replace(mask, "")) == ["reward.terminal-lost"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("next_value = net(last)[1]\n", "next_value = net(last)[1] * (1 - fallen)\n"),
        ("next_value = net(last)[1]\n", "next_value = 0.0 if fallen.all() else net(last)[1]\n"),
        ("    advantage = adv", '    record["next_value"][record["fallen"].bool()] = 0\n    advantage = adv'),
        ("last, reward, fallen, done =", "last, reward, _, done ="),
        ("fallen = abs(self.x) > 2.4", "fallen = self.age > 99"),
    ],
)
def test_a_mask_may_be_elsewhere_or_not_be_needed(own: Any, old: str, new: str) -> None:
    text = (CARTS + ROLLOUT + KEYS + LOOP).replace(' * (1 - record["fallen"])', "")
    assert old in text
    assert found(own, text.replace(old, new)) == []


@pytest.mark.parametrize(
    ("taken", "detached"),
    [
        ('record["log_prob"]', True),
        ('record["log_prob"].flatten()', True),
        ('(policy.log_prob(record["action"]) - record["log_prob"]).exp()', False),
        ('log_of(net, record["action"])', False),
    ],
)
def test_log_probabilities_of_a_rollout_have_no_gradient(own: Any, taken: str, detached: bool) -> None:
    rollout = ROLLOUT.replace("        last,", "        log_prob = policy.log_prob(action)\n        last,")
    others = "def log_of(net, action):\n    return functional.log_softmax(net(action), 1)\n"
    text = rollout + KEYS + others + LOOP.replace('policy.log_prob(record["action"])', taken)
    record = {"log_prob": torch.zeros(8)}
    codes = found(own, text, record=record, log_prob=torch.zeros(8), advantage=torch.ones(8))
    assert codes == ["model.graph-detached"] * detached
    if detached:  # where the loss is made of the record itself
        direct = text.replace("(log_prob * advantage)", f"({taken} * advantage)")
        assert found(own, direct, record=record, advantage=torch.ones(8)) == ["model.graph-detached"]
        kept = torch.zeros(8, requires_grad=True)
        assert found(own, text, record=record, log_prob=kept, advantage=torch.ones(8)) == []


@pytest.mark.parametrize(
    ("size", "learned", "told"), [(100.0, 1000.0, True), (0.1, 1.0, False), (100.0, 1.0, False), (1.0, 100.0, False)]
)
def test_rewards_of_a_rollout_that_values_are_learned_from_as_they_are(
    own: Any, size: float, learned: float, told: bool
) -> None:
    record = {"observation": torch.zeros(16, 4, 3), "reward": torch.full((16, 4), size)}
    returns = torch.full((64,), learned)
    codes = ["reward.scale"] * told
    assert found(own, ROLLOUT + KEYS + LOOP, record=record, returns=returns) == codes
    squared = LOOP.replace("functional.mse_loss(value, returns)", "(returns.view(-1) - value).pow(2).mean()")
    lists = {"states": [torch.zeros(3)] * 64, "rewards": [size] * 64, "returns": returns}
    assert found(own, ROLLOUT + KEYS + squared, **lists) == codes
    scaled = LOOP.replace("functional.mse_loss(value, returns)", "functional.mse_loss(value, returns / 100)")
    assert found(own, ROLLOUT + KEYS + scaled, record=record, returns=returns) == []
