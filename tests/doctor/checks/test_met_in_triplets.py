"""Triplets, target networks and blends of a collate function: faults that were met in scripts, and their healthy
twins."""

from __future__ import annotations

import ast
import copy
from typing import Any

import pytest
import torch
from test_met_in_galleries import Embedding
from test_met_in_second_heads import asked_or_silent
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset, default_collate

from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.step_labels import STEP_LABELS
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.every import every_check
from striate.doctor.checks.model.evaluates_untrained import READ
from striate.doctor.checks.optim.low_precision import LOW_PRECISION
from striate.doctor.diagnose import examine_rewards
from striate.doctor.setup.script_source import ScriptSource


class Triplets(Dataset[Any]):
    """An image, the next of its class and one of another class, with noise."""

    def __init__(self, images: Tensor, labels: Any) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        places = (number, (number + 3) % len(self), (number + 1) % len(self))
        return tuple(self.images[place] + 0.1 * torch.randn(1, 8, 8) for place in places)


def step_of_triplets(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    loss = functional.triplet_margin_loss(*(model(part) for part in batch))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("apart", [False, True])
def test_triplets_of_images_that_validation_holds(apart: bool) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(120, 1, 8, 8), torch.arange(120) % 3
    used = slice(90) if apart else slice(None)
    train = DataLoader(Triplets(images[used], labels[used]), 30)
    val = DataLoader(TensorDataset(images[90:], labels[90:]), 30)
    model = Embedding()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets, "val": val}
    said = asked_or_silent(LEAK, model, train, **options)
    assert ["30 of 30" in one.measured for one in said] == [True] * (not apart)


ACTOR = """
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
    source = ScriptSource({"t.py": ast.parse(ACTOR)}, names, ("t.py", 2, 7), None)
    found = examine_rewards(source).findings
    assert [one.where for one in found if one.code == "optim.parameters-missing"] == ["`optimizer`"] * wrong


@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_triplets_in_an_array(apart: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % 3
    images = 0.1 * torch.randn(300, 1, 8, 8, generator=generator)
    images[torch.arange(300), 0, labels] += 1
    labels = labels[torch.randperm(300, generator=generator)] if apart else labels
    model = Embedding()
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step_of_triplets}
    said = asked_or_silent(LABELS_RANDOM, model, DataLoader(Triplets(images, labels.numpy()), 30), **options)
    assert ["chooses what goes together" in one.measured for one in said] == [True] * apart


@pytest.mark.parametrize("apart", [True, False])
def test_labels_of_other_partners_in_a_collate_function(apart: bool) -> None:
    torch.manual_seed(0)
    data = TensorDataset(torch.randn(480, 1, 8, 8), torch.arange(480) % 10)

    def collate(samples: list[Any]) -> tuple[Tensor, Tensor]:
        x, y = default_collate(samples)
        shares, share = functional.one_hot(y, 10).float(), float(torch.rand(()) * 0.4 + 0.55)
        others = shares.flip(0) if apart else shares.roll(1, 0)
        return share * x + (1 - share) * x.roll(1, 0), share * shares + (1 - share) * others

    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    said = asked_or_silent(STEP_LABELS, model, DataLoader(data, 32, shuffle=True, collate_fn=collate), **options)
    assert [one.where for one in said] == ["the collate function"] * apart


@pytest.mark.parametrize("updated", [True, False])
def test_an_average_is_read_of_when_few_steps_are_made(updated: bool) -> None:
    text = f"""
    average = copy.deepcopy(model)
    for epoch in range(5):
        for x, y in loader:
            loss = step(model, x, y)
            {"update(average, model)" if updated else "pass"}
    test(average(images))
    """
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    names = {"model": model, "average": copy.deepcopy(model), "images": torch.randn(8, 64)}
    loader = DataLoader(TensorDataset(torch.randn(8, 1, 8, 8), torch.arange(8)), 8)
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 1e-3)}
    said = read(text, READ, model, loader, names=names, **options)
    assert ["`average`" in one.measured for one in said] == [True] * (not updated)


def test_half_weights_are_tried_before_others_take_the_time() -> None:
    order = every_check()
    assert order.index(LOW_PRECISION) < order.index(SHIFT)
