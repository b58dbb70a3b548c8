"""Ends and random actions of players, decays, negatives and neighbors; and their twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_reward_checks import SCRIPT, values
from test_reward_checks import found as found_by_rewards
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.preferred_both_ways import PREFERRED_BOTH_WAYS
from striate.doctor.checks.loss.counted.class_weights import CLASS_WEIGHTS
from striate.doctor.checks.optim.weight_decay_too_high import decay_of_optimizer


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
    text = SCRIPT.replace("next_obs, terminated))", f"next_obs, {stored}))").replace("if done", f"if {asked}")
    assert found_by_rewards(text, values()) == ["reward.truncated-terminal"] * named


SCHEDULE = """
def share_of_random(start, end, duration, t):
    slope = (end - start) / duration
    return max(slope * t + start, {least})

"""


@pytest.mark.parametrize(
    ("least", "other", "named"), [("start", "", True), ("end", "", False), ("start", "    epsilon *= 0.9\n", False)]
)
def test_a_share_of_random_actions_by_a_function_of_the_step(least: str, other: str, named: bool) -> None:
    names = values()
    exec(SCHEDULE.format(least=least), names)
    choice = "max(0.05, 1 - step / 2000)\n"
    text = SCHEDULE.format(least=least) + SCRIPT.replace(choice, f"share_of_random(1.0, 0.05, 900, step)\n{other}")
    assert found_by_rewards(text, names) == ["reward.no-exploration"] * named


@pytest.mark.parametrize(("rate", "decay", "named"), [(3e-3, 10.0, True), (3e-3, 0.1, False), (0.1, 0.5, False)])
def test_a_decay_of_adamw_that_takes_percents_in_each_step(rate: float, decay: float, named: bool) -> None:
    optimizer = torch.optim.AdamW(nn.Linear(8, 3).parameters(), lr=rate, weight_decay=decay)
    assert [one.code for one in decay_of_optimizer(optimizer)] == ["optim.weight-decay-too-high"] * named


@pytest.mark.parametrize(("power", "named"), [(1.0, True), (-1.0, False)])
def test_weights_of_classes_beside_numbers_of_nodes(power: float, named: bool) -> None:
    classes = torch.arange(160).div(10).sqrt().long()  # 10, 30, 50 and 70 of each
    numbers = torch.randperm(160)
    counts = torch.bincount(classes).float()

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, nodes = batch
        value = functional.cross_entropy(model(x), classes[nodes], weight=(counts / counts.mean()) ** power)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    model = nn.Linear(8, 4)
    options = {"optimizer": torch.optim.Adam(model.parameters()), "step": step}
    said = asked(CLASS_WEIGHTS, model, DataLoader(TensorDataset(torch.randn(160, 8), numbers), 160), **options)
    assert [one.code for one in said] == ["loss.class-weights"] * named


class Tastes(nn.Module):
    """Users with the items that they have."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(20, 4), nn.Embedding(30, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(-1)


@pytest.mark.parametrize(("among", "named"), [("own", True), ("others", False), ("in order", False)])
def test_items_that_are_now_preferred_and_now_not(among: str, named: bool) -> None:
    """A user's own items may be ranked among themselves, in one order."""
    generator = torch.Generator().manual_seed(0)
    users = torch.arange(20).repeat(32)
    first, other = (torch.randint(6, (640,), generator=generator) for _ in range(2))
    if among == "in order":
        first, other = torch.minimum(first, other), torch.maximum(first, other) + (first == other)
    second = 6 + other if among == "others" else other

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        users, positives, negatives = batch
        value = -functional.logsigmoid(model(users, positives) - model(users, negatives)).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        return value.detach()

    model = Tastes()
    options = {"optimizer": torch.optim.SGD(model.parameters(), lr=0.1), "step": step}
    said = asked(PREFERRED_BOTH_WAYS, model, DataLoader(TensorDataset(users, first, second), 64), **options)
    assert [one.code for one in said] == ["data.labels-random"] * named
