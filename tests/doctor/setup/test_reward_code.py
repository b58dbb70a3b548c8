"""Where the user's code plays an environment and learns values from what follows."""

from __future__ import annotations

import ast
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
from for_checks.rewards import DEEP_Q, Corridor, found_in_rewards, of_code, transitions, values_of_rewards
from quick import few_quick
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.reward_code import is_environment, origins
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


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_carts.py").write_text(CARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return importlib.import_module("own_carts")


def test_an_environment_may_begin_anew_by_itself(own: Any) -> None:
    assert is_environment(own.Carts())
    assert not is_environment(own.Trainer())


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


def found_in_rollouts(own: Any, text: str, **names: Any) -> list[str]:
    tree = ast.parse(text if "class Carts" in text else CARTS + text)
    loop = next(node for node in tree.body if isinstance(node, ast.For))
    known = {"carts": own.Carts(), "net": nn.Linear(4, 2), "gamma": 0.98, "torch": torch, "functional": functional}
    source = ScriptSource({"a2c.py": tree}, {**known, **names}, ("a2c.py", loop.lineno, loop.end_lineno or 0), None)
    return [finding.code for finding in examine_rewards(source).findings]


@pytest.mark.parametrize(
    ("text", "mask"), [(ROLLOUT + KEYS + LOOP, ' * (1 - record["fallen"])'), (LISTS, " * (1 - ends)")]
)
def test_a_recorded_value_of_what_follows_needs_a_mask(own: Any, text: str, mask: str) -> None:
    assert found_in_rollouts(own, text) == []
    assert found_in_rollouts(own, text.replace(mask, "")) == ["reward.terminal-lost"]


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
    assert found_in_rollouts(own, text.replace(old, new)) == []


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
    codes = found_in_rollouts(own, text, record=record, log_prob=torch.zeros(8), advantage=torch.ones(8))
    assert codes == ["model.graph-detached"] * detached
    if detached:  # where the loss is made of the record itself
        direct = text.replace("(log_prob * advantage)", f"({taken} * advantage)")
        assert found_in_rollouts(own, direct, record=record, advantage=torch.ones(8)) == ["model.graph-detached"]
        kept = torch.zeros(8, requires_grad=True)
        assert found_in_rollouts(own, text, record=record, log_prob=kept, advantage=torch.ones(8)) == []


@pytest.mark.parametrize(
    ("size", "learned", "told"), [(100.0, 1000.0, True), (0.1, 1.0, False), (100.0, 1.0, False), (1.0, 100.0, False)]
)
def test_rewards_of_a_rollout_that_values_are_learned_from_as_they_are(
    own: Any, size: float, learned: float, told: bool
) -> None:
    record = {"observation": torch.zeros(16, 4, 3), "reward": torch.full((16, 4), size)}
    returns = torch.full((64,), learned)
    codes = ["reward.scale"] * told
    assert found_in_rollouts(own, ROLLOUT + KEYS + LOOP, record=record, returns=returns) == codes
    squared = LOOP.replace("functional.mse_loss(value, returns)", "(returns.view(-1) - value).pow(2).mean()")
    lists = {"states": [torch.zeros(3)] * 64, "rewards": [size] * 64, "returns": returns}
    assert found_in_rollouts(own, ROLLOUT + KEYS + squared, **lists) == codes
    scaled = LOOP.replace("functional.mse_loss(value, returns)", "functional.mse_loss(value, returns / 100)")
    assert found_in_rollouts(own, ROLLOUT + KEYS + scaled, record=record, returns=returns) == []


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
    head, _, _ = DEEP_Q.rpartition("    if step % 500")
    said = found_in_rewards(head + SOFT.format(write), values_of_rewards())
    assert said == ["reward.target-stale"] * stale


ACTOR = """
for update in range(99):
    loss = -critic(observation, actor(observation)).mean()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(("given", "wrong"), [("critic", True), ("actor", False), ("both", False)])
def test_two_optimizers_of_one_network_and_none_of_another(given: str, wrong: bool) -> None:
    actor, critic = nn.Linear(8, 8), nn.Sequential(nn.Linear(8, 1))
    held = {"critic": critic, "actor": actor, "both": nn.ModuleList([actor, critic])}[given]
    names = {"actor": actor, "critic": critic, "torch": torch, "of_actor": torch.optim.Adam(held.parameters())}
    names["of_critic"] = torch.optim.Adam(critic.parameters())
    source = ScriptSource({"t.py": ast.parse(ACTOR)}, names, ("t.py", 2, 5), None)
    said = [one for one in examine_rewards(source).findings if one.code == "optim.parameters-missing"]
    assert [one.where for one in said] == ["`of_actor`"] * wrong


@pytest.mark.parametrize(
    ("critic", "with_gradients", "stale"), [(True, True, False), (True, False, True), (False, True, True)]
)
def test_a_critic_with_gradients_that_no_optimizer_holds_is_no_target_network(
    critic: bool, with_gradients: bool, stale: bool
) -> None:
    """Though a copy of the trained network that is asked with gradients is one."""
    names = values_of_rewards(**({"target": nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 1))} if critic else {}))
    head, _, _ = DEEP_Q.rpartition("    if step % 500")
    networks = (names["target"],) * with_gradients
    source = ScriptSource({"t.py": ast.parse(head)}, names, ("t.py", 4, 22), None, without_optimizer=networks)
    said = [one.code for one in examine_rewards(source).findings]
    assert ("reward.target-stale" in said) == stale
    assert ("optim.parameters-missing" in said) == (critic and with_gradients)


@pytest.mark.parametrize("early", [True, False])
def test_a_reward_is_stored_once_it_is_there(early: bool) -> None:
    stored = "    rewards[step] = reward\n"
    played_step = "    next_obs, reward, terminated, truncated, _ = env.step(action)\n"
    both = stored + played_step if early else played_step + stored
    text = DEEP_Q.replace(played_step, "    actions[step] = action\n" + both)
    text = text.replace("    memory.append((obs, action, reward, next_obs, terminated))\n", "")
    assert ("reward.off-by-one" in found_in_rewards(text, values_of_rewards())) is early


STORED_ROLLOUT = """
for update in range(100):
    with torch.no_grad():
        for t in range(8):
            policy = Categorical(logits=net(obs))
            action = policy.sample()
            kept[t] = policy.log_prob(action)
            obs, reward, done, _ = env.step(action)
    logits = net(seen)
    log_prob = {log_prob}
    loss = -(log_prob * advantage).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("taken", "cut_off"), [("kept.reshape(-1)", True), ("Categorical(logits=logits).log_prob(acted)", False)]
)
def test_a_buffer_of_log_probabilities_has_no_gradient(taken: str, cut_off: bool) -> None:
    log_prob = torch.zeros(8, requires_grad=not cut_off)
    names = values_of_rewards(kept=torch.zeros(8), log_prob=log_prob, advantage=torch.ones(8), seen=torch.zeros(8, 8))
    found = found_in_rewards(STORED_ROLLOUT.format(log_prob=taken), names)
    assert ("model.graph-detached" in found) is cut_off


@pytest.mark.parametrize(("share", "never"), [("share_at(step)", False), ("0.0", True)])
def test_a_share_of_random_actions_is_what_calls_give(share: str, never: bool) -> None:
    chosen = "def choose(net, obs, epsilon):\n    if random.random() < epsilon:\n        return 0\n"
    chosen += "    return net(obs).argmax()\n"
    asked_first = "def evaluate(net):\n    return choose(net, obs, epsilon=0.0)\n"
    text = DEEP_Q.replace("    epsilon = max(0.05, 1 - step / 2000)\n", "")
    before, _, after = text.partition("    if random.random() < epsilon:\n")
    behind = after[after.index("    next_obs, reward") :]
    text = chosen + asked_first + before + f"    action = choose(net, obs, {share})\n" + behind
    assert ("reward.no-exploration" in found_in_rewards(text, values_of_rewards(epsilon=0.0))) is never


@pytest.mark.parametrize(
    ("stored", "asked", "named"),
    [
        ("truncated", "terminated or truncated", True),
        ("terminated", "terminated or truncated", False),
        ("truncated, terminated", "terminated or truncated", False),
        ("truncated", "terminated", False),
    ],
)
def test_an_end_that_is_asked_for_is_no_limit(stored: str, asked: str, named: bool) -> None:
    text = DEEP_Q.replace("next_obs, terminated))", f"next_obs, {stored}))").replace("if done", f"if {asked}")
    assert found_in_rewards(text, values_of_rewards()) == ["reward.truncated-terminal"] * named


ENVIRONMENT_BEFORE = """
class Arena:
    def step(self, action):
        terminated = self.moves(action)
        truncated = self.t >= 80 and not terminated
        done = terminated or truncated
        return self.state(), -1.0, terminated, truncated, {}

"""


@pytest.mark.parametrize(
    ("stored", "ends", "named"),
    [("truncated", "terminated or truncated", True), ("done", "terminated", False)],
)
def test_names_in_the_code_of_the_environment_are_its_own(stored: str, ends: str, named: bool) -> None:
    text = DEEP_Q.replace("next_obs, terminated))", f"next_obs, {stored}))")
    text = ENVIRONMENT_BEFORE + text.replace("done = terminated or truncated", f"done = {ends}")
    assert found_in_rewards(text, values_of_rewards()) == ["reward.truncated-terminal"] * named


SCHEDULE = """
def share_of_random(start, end, duration, t):
    slope = (end - start) / duration
    return max(slope * t + start, {least})

"""


@pytest.mark.parametrize(
    ("least", "other", "named"), [("start", "", True), ("end", "", False), ("start", "    epsilon *= 0.9\n", False)]
)
def test_a_share_of_random_actions_by_a_function_of_the_step(least: str, other: str, named: bool) -> None:
    names = values_of_rewards()
    exec(SCHEDULE.format(least=least), names)
    choice = "max(0.05, 1 - step / 2000)\n"
    text = SCHEDULE.format(least=least) + DEEP_Q.replace(choice, f"share_of_random(1.0, 0.05, 900, step)\n{other}")
    assert found_in_rewards(text, names) == ["reward.no-exploration"] * named


def test_what_says_which_place_is_written_is_no_part_of_it() -> None:
    text = """
def collect():
    for t in range(9):
        values[t] = model(x)
        done[t] = ended
        targets[finished] = 0
    for t in range(9):
        target = reward[t] + gamma * values[t]
    return target, targets
"""
    (function,) = ast.parse(text).body
    statements = [node for node in ast.walk(function) if isinstance(node, ast.stmt)]
    target = next(node for node in statements if ast.unparse(node).startswith("target ="))
    names = {part.id for part in origins(function, target) if isinstance(part, ast.Name)}
    assert {"model", "x"} <= names
    assert not {"ended", "done", "finished"} & names
    last = next(node for node in statements if isinstance(node, ast.Return))
    assert "finished" in {part.id for part in origins(function, last) if isinstance(part, ast.Name)}


def test_values_of_what_follows_need_no_environment_that_is_an_object() -> None:
    head, _, _ = DEEP_Q.rpartition("    if step % 500")
    assert found_in_rewards(head, values_of_rewards(env=None)) == ["reward.target-stale"]
    assert found_in_rewards(head.replace("target(s2)", "target(s)"), values_of_rewards(env=None)) == []


DISCOUNTS = (
    DEEP_Q.replace("s, a, r, s2, d =", "s, a, r, s2, discounts =")
    .replace("gamma * next_values * (1 - d.float())", "discounts * next_values")
    .replace("next_obs, terminated))", "next_obs, 0.0 if terminated else gamma))")
)


@pytest.mark.parametrize("at_end", [0.0, 0.99])
@pytest.mark.parametrize("name", ["", "discounts", "not_dones"])
def test_a_discount_of_zero_marks_the_end_of_an_episode(name: str, at_end: float) -> None:
    rows = [(*row[:4], at_end if row[4] else 0.99) for row in transitions()]
    if name == "not_dones":
        rows = [(*row[:4], row[4] > 0) for row in rows]
    memory: Any = deque(rows)
    if name:
        columns = [np.array(part) for part in zip(*rows, strict=True)]
        memory = SimpleNamespace(**dict(zip(("obs", "actions", "rewards", "next_obs", name), columns, strict=True)))
    said = found_in_rewards(DISCOUNTS, values_of_rewards(memory=memory, discounts=torch.ones(32)))
    assert said == ["reward.terminal-lost"] * (at_end > 0)


TURNED = "    memory.append((turned(obs), 1 - action, reward, turned(next_obs), terminated))\n"


IN_TURN = "    for each in players:\n"
IN_TURN += "        memory.append((obs[each], action[each], reward[each], next_obs[each], d[each]))\n"


@pytest.mark.parametrize(("more", "in_order"), [("", True), (TURNED, False), (IN_TURN, False)])
def test_moves_that_are_stored_twice_are_not_in_the_order_of_time(more: str, in_order: bool) -> None:
    memory = deque[Any]()
    for row in transitions():
        memory += [row, (row[0][::-1].copy(), 1 - row[1], row[2], row[3][::-1].copy(), row[4])]
    stored = "    memory.append((obs, action, reward, next_obs, terminated))\n"
    assert stored in DEEP_Q
    text = DEEP_Q.replace(stored, more if more == IN_TURN else stored + more)
    assert ("reward.off-by-one" in found_in_rewards(text, values_of_rewards(memory=memory))) is in_order


@pytest.mark.parametrize(
    ("mask", "stored", "known", "right"),
    [
        ("d", "terminated", {}, False),
        ("d.float().view(-1)", "terminated", {}, False),
        ("batch['dones']", "terminated", {"batch": {"dones": torch.eye(8)[0]}}, False),
        ("batch['dones']", "terminated", {"batch": {"dones": 1 - torch.eye(8)[0]}}, True),
        ("d", "not terminated", {}, True),
        ("not_done", "terminated", {}, True),
        ("(1 - d)", "terminated", {}, True),
    ],
)
def test_what_follows_does_not_count_at_ends_alone(mask: str, stored: str, known: dict[str, Any], right: bool) -> None:
    text = DEEP_Q.replace("(1 - d.float())", mask).replace("next_obs, terminated))", f"next_obs, {stored}))")
    text = text.replace("    batch = random.sample(memory, 32)\n", "") if known else text
    found = found_in_rewards(text, values_of_rewards(**known))
    assert ("reward.terminal-lost" in found) is not right


ACTOR_WITH_TARGET = """
for update in range(99):
    with torch.no_grad():
        wanted = critic(following, copy(following))
    loss = -critic(observation, actor(observation)).mean()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize("wrong", [True, False])
def test_the_optimizer_of_a_target_network(wrong: bool) -> None:
    actor, copy, critic = (nn.Sequential(nn.Linear(2, 2)) for _ in range(3))
    names = {"actor": actor, "copy": copy, "critic": critic, "torch": torch}
    given = copy if wrong else actor
    names |= {"optimizer": torch.optim.Adam(given.parameters()), "of_critic": torch.optim.Adam(critic.parameters())}
    source = ScriptSource({"t.py": ast.parse(ACTOR_WITH_TARGET)}, names, ("t.py", 2, 7), None)
    found = examine_rewards(source).findings
    assert [one.where for one in found if one.code == "optim.parameters-missing"] == ["`optimizer`"] * wrong


@pytest.mark.parametrize(
    ("stored", "named"), [("done and not truncated", False), ("done & ~truncated", False), ("done", True)]
)
def test_an_end_from_which_cut_off_episodes_are_taken_out(stored: str, named: bool) -> None:
    text = DEEP_Q.replace("next_obs, terminated))", f"next_obs, {stored}))")
    assert found_in_rewards(text, values_of_rewards()) == ["reward.truncated-terminal"] * named


@pytest.mark.parametrize(("method", "named"), [("reset", True), ("step", False)])
def test_an_environment_that_begins_by_chance_explores_nothing(method: str, named: bool) -> None:
    """One whose steps are of chance leads elsewhere by itself."""
    choice = "    epsilon = max(0.05, 1 - step / 2000)\n    if random.random() < epsilon:\n"
    choice += "        action = env.action_space.sample()\n    else:\n    "
    assert choice in DEEP_Q
    bodies = {name: "random.random()" if name == method else "0" for name in ("reset", "step")}
    own = "class Room:\n" + "".join(f"    def {name}(self):\n        return {body}\n" for name, body in bodies.items())
    text = own + DEEP_Q.replace(choice, "")
    assert found_in_rewards(text, values_of_rewards()) == ["reward.no-exploration"] * named


@pytest.mark.parametrize(
    ("update", "wrong"),
    [
        ("    for q, p in pairs:\n        q.lerp_(p, 0.01)\n", False),
        ("    torch._foreach_lerp_(slow, fast, 0.01)\n", False),
        ("    for q, p in zip(slow, fast):\n        q.lerp_(p, 0.01)\n", False),
        ("    for q, p in pairs:\n        p.lerp_(q, 0.01)\n", True),
        ("    for q, p in once:\n        q.lerp_(p, 0.01)\n", True),
    ],
)
def test_a_target_network_follows_by_lists_of_its_tensors(update: str, wrong: bool) -> None:
    names = values_of_rewards()
    slow, fast = ([p.data for p in names[name].parameters()] for name in ("target", "net"))
    held = {
        "slow": slow,
        "fast": fast,
        "pairs": list(zip(slow, fast, strict=True)),
        "once": zip(slow, fast, strict=True),
    }
    head, _, _ = DEEP_Q.rpartition("    if step % 500")
    assert found_in_rewards(head + update, names | held) == ["reward.target-stale"] * wrong


ROOM = """
class Room:
    def reset(self): ...
    def step(self, action):
        return self.place, reward, {}, {{}}
"""


@pytest.mark.parametrize(("given", "named"), [("terminated, truncated", True), ("truncated, terminated", False)])
@pytest.mark.parametrize("own", [False, True])
def test_flags_that_get_the_names_of_each_other(own: bool, given: str, named: bool) -> None:
    """Not those of an environment of the script's own that gives them in this order."""
    assert "terminated, truncated, _" in DEEP_Q
    text = DEEP_Q.replace("terminated, truncated, _", "truncated, terminated, _")
    if own:
        text = ROOM.format(given).replace("Room", "Corridor") + text
    found = found_in_rewards(text, values_of_rewards(env=Corridor()))
    assert found == ["reward.terminal-lost"] * (named or not own)


def test_flags_that_are_only_asked_for_together_may_be_exchanged() -> None:
    text = DEEP_Q.replace("terminated, truncated, _", "truncated, terminated, _")
    found = found_in_rewards(text.replace("next_obs, terminated))", "next_obs, done))"), values_of_rewards())
    assert found == ["reward.truncated-terminal"]


POLICY = """
for update in range(100):
    for step in range(10):
        policy = Categorical({given})
        action = policy.sample()
        kept.append({term})
    loss = -(torch.cat(kept) * advantages).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


@pytest.mark.parametrize(
    ("given", "term", "codes"),
    [
        ("logits=actor(obs)", "policy.log_prob(action)", []),
        ("logits=actor(obs)", "policy.log_prob(action).detach()", ["model.graph-detached"]),
        ("logits=actor(obs)", "policy.log_prob(action).item()", ["model.graph-detached"]),
        ("logits=actor(obs).softmax(-1)", "policy.log_prob(action)", ["model.double-softmax"]),
        ("probs=actor(obs).softmax(-1)", "policy.log_prob(action)", []),
    ],
)
def test_a_policy_gets_a_gradient_and_scores(given: str, term: str, codes: list[str]) -> None:
    assert of_code(POLICY.format(given=given, term=term)) == codes


def test_what_an_older_policy_gave_is_cut_off() -> None:
    text = POLICY.format(given="logits=actor(obs)", term="policy.log_prob(action).detach()")
    assert of_code(text + "    ratio = (new.log_prob(actions) - old).exp()\n") == []


@pytest.mark.parametrize(("rate", "wrong"), [(0.1, True), (3e-3, False)])
def test_adam_with_a_rate_of_gradient_descent(rate: float, wrong: bool) -> None:
    optimizer = torch.optim.Adam([torch.zeros(3, requires_grad=True)], lr=rate)
    text = POLICY.format(given="logits=actor(obs)", term="policy.log_prob(action)")
    assert of_code(text, optimizer=optimizer) == ["optim.lr-too-high"] * wrong


@pytest.mark.parametrize(("shape", "wrong"), [((64, 1), True), ((64,), False)])
def test_returns_and_values_are_of_one_shape(shape: tuple[int, ...], wrong: bool) -> None:
    text = POLICY.format(given="logits=actor(obs)", term="policy.log_prob(action)")
    text += "    value_loss = (returns - values).pow(2).mean()\n"
    assert of_code(text, returns=torch.rand(64), values=torch.rand(shape)) == ["loss.broadcast"] * wrong


FAULTS_OF_REWARDS: dict[str, tuple[str, str]] = {
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


@pytest.mark.parametrize("name", few_quick(list(FAULTS_OF_REWARDS), list(FAULTS_OF_REWARDS)))
def test_a_fault_in_a_script_is_named(name: str) -> None:
    right, wrong = FAULTS_OF_REWARDS[name]
    assert right in DEEP_Q
    head, _, tail = DEEP_Q.rpartition(right) if name.startswith("reward.target") else DEEP_Q.partition(right)
    names = values_of_rewards(gamma=1.0) if name == "reward.endless" else values_of_rewards()
    assert found_in_rewards(head + wrong + tail, names) == [name.partition(",")[0]]


@pytest.mark.parametrize("body", ["other(states)", "other.load_state_dict(net.state_dict())"])
def test_a_target_network_is_renewed_by_what_changes_it_and_not_by_what_asks_it(body: str) -> None:
    head, _, _ = DEEP_Q.rpartition("    if step % 500")
    text = f"def update(other, states):\n    {body}\n{head}    update(target, s2)\n"
    assert found_in_rewards(text, values_of_rewards()) == ["reward.target-stale"] * ("states" in body)


def test_a_healthy_script_has_no_finding() -> None:
    assert found_in_rewards(DEEP_Q, values_of_rewards()) == []
    soft = "    for p, q in zip(net.parameters(), target.parameters()):\n        q.data.lerp_(p.data, 0.01)\n"
    head, _, _ = DEEP_Q.rpartition("    if step % 500")
    assert found_in_rewards(head + soft, values_of_rewards()) == []
    named = "    for one, other in ((net, target),):\n"
    for p, code in (("other.parameters()", []), ("[]", ["reward.target-stale"])):
        each = f"        for q, p in zip({p}, {p}):\n            q.data.lerp_(p.data, 0.01)\n"
        assert found_in_rewards(head + named + each, values_of_rewards()) == code


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
    assert found_in_rewards(DEEP_Q, values_of_rewards(memory=memory)) == [code]


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
