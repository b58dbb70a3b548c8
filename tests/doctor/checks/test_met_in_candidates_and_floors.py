"""Candidates that are ranked, episodes that a limit ends, and shares that are dropped: faults that were met in scripts,
and their healthy twins."""

from __future__ import annotations

import ast
import random
from typing import Any

import numpy as np
import pytest
import torch
from asked import digits
from test_cosine_scores import adam
from test_met_in_vision_scripts import read
from test_of_a_perfect_network import codes, of
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.model.dropout_too_high import DROPOUT_TOO_HIGH
from striate.doctor.checks.reward.recorded import recorded
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.script_source import ScriptSource
from striate.tasks.control.doctor import reward_values


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
    assert recorded(names) is not None
    source = ScriptSource({"train.py": ast.parse("for t in x:\n    pass\n")}, names, ("train.py", 1, 2), None)
    told = [finding.code for finding in examine_rewards(source).findings]
    assert told.count("reward.terminal-lost") == lost


@pytest.mark.parametrize(("rewards", "tiny"), [([-0.01] * 99, False), ([-0.01] * 98 + [0.01], True)])
def test_a_goal_may_not_have_been_met_yet(rewards: list[float], tiny: bool) -> None:
    assert [one.code for one in reward_values(np.array(rewards), "here")] == ["reward.scale"] * tiny


RANKS = """
def evaluate(net, data):
    found = []
    with torch.no_grad():
        for x, y in data:
            items = 10 + torch.arange(len(x))
            best = torch.topk(net(x).flatten(), 2).indices
            found.append(float(10 + int(y.argmax()) in ({of}).tolist()))
    return {{"{name}": sum(found) / len(found)}}
"""


@pytest.mark.parametrize(
    ("best", "name", "wrong"),
    [("items[best]", "HR@2", False), ("best", "HR@2", True), ("best", "share", False)],
)
def test_a_perfect_network_finds_the_right_candidate(best: str, name: str, wrong: bool) -> None:
    x = torch.randn(320, 6, generator=torch.Generator().manual_seed(0))
    scores = x[:, :1].reshape(40, 8)
    y = (scores == scores.amax(1, keepdim=True)).float().reshape(320, 1)
    parts = (TensorDataset(x[a:b], y[a:b]) for a, b in ((0, 160), (160, 320)))
    loaders = [DataLoader(part, size) for part, size in zip(parts, (16, 8), strict=True)]
    names = of(nn.Linear(6, 1), *loaders, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(7.0)))
    text = RANKS.format(of=best, name=name)
    assert codes(text, "found = evaluate(model, val_loader)", names) == ["eval.wrong-count"] * wrong


class Residual(nn.Module):
    """Much of it may be dropped without harm."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.side, self.dropout, self.head = nn.Linear(64, 64), nn.Dropout(p), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> Any:
        x = x.flatten(1)
        return self.head(x + 0.01 * self.dropout(self.side(x)))


@pytest.mark.parametrize(
    ("given", "p", "wrong"),
    [("1 - dropout", 0.9, True), ("p=keep_prob", 0.8, True), ("dropout", 0.9, False), ("1 - keep_prob", 0.9, False)],
)
def test_names_tell_the_share_to_keep(given: str, p: float, wrong: bool) -> None:
    text = f"dropout = nn.Dropout({given})\nfor x, y in loader:\n    pass\n"
    assert len(read(text, DROPOUT_TOO_HIGH, Residual(p), digits(), optimizer=adam)) == wrong


class Liked(nn.Module):
    """How much users like items, by both alone."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(40, 1), nn.Embedding(30, 1)

    def forward(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        liked: torch.Tensor = self.users(users) + self.items(items)
        return liked.squeeze(1)


def liked_step(model: Any, batch: Any, optimizer: Any, _: Any) -> torch.Tensor:
    users, items, labels = batch
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(users, items), labels.float())
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize(("turned", "codes"), [(True, ["data.labels-random"]), (False, [])])
def test_labels_of_ids_say_the_opposite_of_validation(turned: bool, codes: list[str]) -> None:
    torch.manual_seed(0)
    users, items = torch.randint(40, (600,)), torch.randint(30, (600,))
    labels = (users * 7 % 40 < 20).long()
    train = DataLoader(TensorDataset(users[:400], items[:400], (labels[:400] - int(turned)).abs()), 16)
    val = DataLoader(TensorDataset(users[400:], items[400:], labels[400:]), 50)
    model = Liked()
    options: Any = {"val": val, "step": liked_step, "optimizer": torch.optim.Adam(model.parameters(), 0.1)}
    said = read("for x in loader:\n    pass\n", LABELS_RANDOM, model, train, **options)
    assert [one.code for one in said] == codes
