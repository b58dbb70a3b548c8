"""Scripts and environments that tests of checks share where rewards are learned from."""

from __future__ import annotations

import ast
import copy
import random
from collections import deque, namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from for_checks.asked import perceptron
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.script_source import ScriptSource


def uncleared(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    return value


Transition = namedtuple("Transition", "state action next_state reward done")


class Memory:
    def __init__(self, reward: float, same: bool) -> None:
        boards = np.random.default_rng(0).normal(size=(71, 4)).astype(np.float32)
        boards = np.broadcast_to(boards[:1], boards.shape) if same else boards
        rows = (Transition(boards[n], 0, boards[n + 1], reward if n % 7 == 6 else 0.0, n % 7 == 6) for n in range(70))
        self.memory = deque(rows)


class OwnLoss(nn.Module):
    def __init__(self, weight: Tensor | None = None) -> None:
        super().__init__()
        self.body, self.weight = perceptron(), weight

    def forward(self, x: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.body(x)
        return logits, functional.cross_entropy(logits, targets, self.weight)


def _own_step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = net(batch[0], batch[1])[1]
    value.backward()
    optimizer.step()
    return value.detach()


ACTOR_CRITIC = """
for step in range(100):
    logp, value, entropy = evaluate(obs, act)
    advantages = returns - value.detach()
    actor_loss = {term}
    loss = actor_loss + 0.5 * (returns - value).pow(2).mean() - 0.01 * entropy.mean()
    loss.backward()
    optimizer.step()
"""


def of_code(text: str, **names: Any) -> list[str]:
    """What is found of a script whose steps are not made."""
    source = ScriptSource({"play.py": ast.parse(text)}, names, ("play.py", 1, 20), 1)
    return [finding.code for finding in examine_rewards(source).findings]


DEEP_Q = """
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


def values_of_rewards(**other: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    net = nn.Linear(8, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    return {
        "env": Corridor(), "net": net, "target": copy.deepcopy(net), "optimizer": optimizer, "gamma": 0.99,
        "memory": deque(transitions()), "random": random, "torch": torch, "nn": nn, "np": np, "epsilon": 0.9, **other,
    }  # fmt: skip


def found_in_rewards(text: str, names: dict[str, Any]) -> list[str]:
    tree = ast.parse(text)
    loop = next(node for node in ast.walk(tree) if isinstance(node, ast.For))
    source = ScriptSource({"dqn.py": tree}, names, ("dqn.py", loop.lineno, loop.end_lineno or 0), None)
    return [finding.code for finding in examine_rewards(source).findings]
