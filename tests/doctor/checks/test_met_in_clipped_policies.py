"""Rollouts that clipped policies learn from, windows in variables, gradients divided where they lie: faults that were
met in scripts, and their healthy twins."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from asked import asked
from test_policy_sign import ACTOR_CRITIC, of_code
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.splits.windows_shared import WINDOWS_SHARED
from striate.doctor.diagnose import examine_code
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource

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


def test_an_episode_without_an_end_has_none_to_mask() -> None:
    assert of_code(ACTOR_CRITIC.format(term="x"), **rollout(masked=False, ends=0.0)) == []


@pytest.mark.parametrize("late", [True, False])
def test_observations_of_a_rollout_are_those_of_its_values(late: bool) -> None:
    assert of_code(ACTOR_CRITIC.format(term="x"), **rollout(late=late)) == ["reward.off-by-one"] * late


CLIPPED = "torch.max({sign}advantages * ratio, {sign}advantages * ratio.clamp(0.8, 1.2)).mean()"


@pytest.mark.parametrize(("gain", "sign", "wrong"), [("", "", True), ("", "-", False), ("cost_", "", False)])
def test_the_larger_of_two_losses_of_a_policy(gain: str, sign: str, wrong: bool) -> None:
    term = CLIPPED.format(sign=sign).replace("advantages", f"{gain}advantages")
    watched = "    with torch.no_grad():\n        divergence = (-log_ratio).mean()\n"
    assert of_code(ACTOR_CRITIC.format(term=term) + watched) == ["loss.sign"] * wrong


def of_training(text: str, names: dict[str, Any]) -> list[str]:
    """What is found of a script of whose loop no step is made."""
    source = ScriptSource({"train.py": ast.parse(text)}, names, ("train.py", 1, len(text.split("\n"))), 1)
    return [finding.code for finding in examine_code(source, nn.Linear(2, 1), "").findings]


ADDED_UP = """
for step, (x, y) in enumerate(loader, start=1):
    loss = criterion(model(x), y)
    loss.backward()
    if step % accumulate == 0:
        {divided}
        optimizer.step()
        optimizer.zero_grad()
"""


@pytest.mark.parametrize("divided", ["p.grad.div_(seen)", "p.grad /= seen", "print(seen)"])
def test_gradients_that_are_divided_where_they_lie(divided: str) -> None:
    model = nn.Linear(2, 1)
    names = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "model": model, "accumulate": 4}
    assert of_training(ADDED_UP.format(divided=divided), names) == ["optim.accumulation"] * ("print" in divided)


def windows(series: Tensor) -> Tensor:
    return series.unfold(0, 24, 2).transpose(1, 2)


@pytest.mark.parametrize("first_cut", [True, False])
def test_windows_in_variables_that_were_cut_before_the_split(first_cut: bool) -> None:
    series = torch.randn(900, 4, generator=torch.Generator().manual_seed(0))
    train, valid = windows(series[:700]), windows(series[700:])
    if first_cut:
        cut = windows(series)[torch.randperm(439, generator=torch.Generator().manual_seed(1))]
        train, valid = cut[:350], cut[350:]
    text = "for x in loader:\n    pass\n"
    source = ScriptSource({"train.py": ast.parse(text)}, {"train": train, "valid": valid}, ("train.py", 1, 2), 1)
    loader = DataLoader(TensorDataset(train, train), 32)
    said: list[Any] = []
    with suppress(NoEvidence):
        said = asked(WINDOWS_SHARED, nn.Linear(4, 4), loader, loss=nn.MSELoss(), task="regress", source=source)
    assert [one.code for one in said] == ["data.leak"] * first_cut
