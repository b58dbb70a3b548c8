"""Actors and critics, counts, probabilities and blends: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from test_met_in_second_heads import asked_or_silent, stepped
from test_met_in_vision_scripts import read
from test_reward_checks import SCRIPT as OF_VALUES
from test_reward_checks import found as found_by_rewards
from test_reward_checks import values as values_of_rewards
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.scrambled import SCRAMBLED
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.predicted import THRESHOLD
from striate.doctor.checks.loss.task.wrong_for_task import WRONG_FOR_TASK
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.script_source import ScriptSource

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
    head, _, _ = OF_VALUES.rpartition("    if step % 500")
    said = found_by_rewards(head + SOFT.format(write), values_of_rewards())
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


@pytest.mark.parametrize(("given", "wrong"), [("logloss", True), ("auc", False)])
def test_a_word_may_end_in_loss(given: str, wrong: bool) -> None:
    text = SCRIPT.replace(
        "    if accuracy > best_accuracy:\n        best_accuracy = accuracy\n", f"    keeper.goes({given})\n"
    )
    assert text != SCRIPT
    keeper = "class Keeper:\n    def goes(self, accuracy):\n        if accuracy > self.best_accuracy:\n"
    text = f"{keeper}            self.best_accuracy = accuracy\nkeeper = Keeper()\n{text}"
    assert list(found(text, values(), [WORST_KEPT])) == ["eval.worst-kept"] * wrong


class Likes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(x))[:, 0]


@pytest.mark.parametrize(("limit", "wrong"), [("0", True), ("0.3", False)])
def test_probabilities_that_a_network_gives_are_above_zero(limit: str, wrong: bool) -> None:
    text = f"def test():\n    out = model(x)\n    return (out > {limit}) == y\nfor x, y in loader:\n    pass\n"
    x, model = torch.randn(64, 8), Likes()
    loader = DataLoader(TensorDataset(x, (x[:, 0] > 0).float()), 32)
    said = read(text, THRESHOLD, model, loader, loss=nn.BCELoss(), names={"model": model})
    assert [one.code for one in said] == ["eval.threshold"] * wrong


@pytest.mark.parametrize(("log_input", "wrong"), [(True, True), (False, False)])
def test_poisson_of_rates(log_input: bool, wrong: bool) -> None:
    x, model = torch.randn(64, 8), nn.Linear(8, 1)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.poisson_nll_loss(model(batch[0]).exp().squeeze(1), batch[1], log_input=log_input)
        return stepped(model, loss, optimizer)

    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.01), "step": step}
    said = asked_or_silent(
        WRONG_FOR_TASK, model, DataLoader(TensorDataset(x, torch.poisson(x[:, 0].exp())), 32), **options
    )
    assert ["log_input" in one.measured for one in said] == [True] * wrong


PREPARED = """
def channels(x):
    return x

@torch.no_grad()
def test():
    return model(channels(x)).argmax(1)

for x, y in loader:
    loss = functional.cross_entropy(model({}(x)), y)
"""


@pytest.mark.parametrize(("trained", "wide"), [("channels", True), ("channels", False), ("", True)])
def test_samples_that_only_training_brings_to_one_place_and_size(trained: str, wide: bool) -> None:
    """Not where only the evaluation calls a function that may do it."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 24, generator=generator), torch.arange(400) % 3
    x[torch.arange(400), y] += 4
    places = 900 * torch.randn(400, 24, generator=generator)
    model = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 3))
    val = TensorDataset(40 * x + places if wide else x, y)
    tensors = {"model": model, "x": x[:9], "y": y[:9], "torch": torch, "functional": functional}
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "val": DataLoader(val, 50)}
    loader = DataLoader(TensorDataset(x, y), 40, shuffle=True)
    said = read(PREPARED.format(trained), SHIFT, model, loader, loss=nn.CrossEntropyLoss(), names=tensors, **options)
    assert ["times as large" in one.measured for one in said] == [True] * (wide and bool(trained))


class Points(nn.Module):
    """Of points (N, 2, places) the largest of what is made of each."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv1d(2, 16, 1), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).relu().amax(2))


@pytest.mark.slow
@pytest.mark.parametrize("viewed", [True, False])
def test_points_that_are_viewed_for_transposed(viewed: bool) -> None:
    torch.manual_seed(0)
    y, along = torch.arange(320) % 2, torch.randn(320, 16)
    x = torch.stack([along, along * (2 * y[:, None] - 1)], 2) + 0.1 * torch.randn(320, 16, 2)
    model = Points()

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        given = batch[0].reshape(len(batch[0]), 2, 16) if viewed else batch[0].transpose(1, 2)
        return stepped(model, functional.cross_entropy(model(given), batch[1]), optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-2), "step": step}
    said = asked_or_silent(SCRAMBLED, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), **options)
    assert [one.code for one in said] == ["data.scrambled"] * viewed


@pytest.mark.parametrize("other", [True, False])
def test_signals_that_are_masked_and_blended(other: bool) -> None:
    torch.manual_seed(0)
    y, model = torch.arange(256) % 4, nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    x = torch.randn(256, 1, 64)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = batch[0].clone(), batch[1]
        x[:, :, 20:26] = 0
        partner = torch.randperm(len(y))
        out, second = model(0.3 * x + 0.7 * x[partner]), y[torch.randperm(len(y)) if other else partner]
        loss = 0.3 * functional.cross_entropy(out, y) + 0.7 * functional.cross_entropy(out, second)
        return stepped(model, loss, optimizer)

    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = asked_or_silent(STEP_LABELS, model, DataLoader(TensorDataset(x, y), 32, shuffle=True), **options)
    assert [one.code for one in said] == ["data.step-labels"] * other
