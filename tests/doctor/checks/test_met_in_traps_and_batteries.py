"""Networks that keep their parts in lists and are never called themselves, schedules beside trainers with steps of
their own, points that stay where pictures are flipped, masks the wrong way
round, patterns that are shifted; and their twins."""

from __future__ import annotations

import itertools
import math
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_data_augmented import Drawn
from test_met_in_vision_scripts import read
from test_reward_checks import SCRIPT
from test_reward_checks import found as found_by_rewards
from test_reward_checks import values as played
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.script.examined_step import Caught, model_of


class Density(nn.Module):
    """Is asked by a method of its own, so that only its parts are called."""

    def __init__(self, listed: bool) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))
        parts = [nn.Linear(4, 4) for _ in range(2)]
        self.parts = parts if listed else nn.ModuleList(parts)

    def log_prob(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return -(self.scale * x).square().sum(1)


@pytest.mark.parametrize("listed", [True, False])
def test_what_keeps_the_parts_that_run_in_a_list_is_the_network(listed: bool) -> None:
    density, other = Density(listed), Density(listed=False)
    density.log_prob(torch.ones(2, 4)).sum().backward()
    catch = Caught(60, modules={number: (part, {}) for number, part in enumerate(density.parts)})
    optimizer = torch.optim.SGD(density.parameters(), lr=0.1)
    assert model_of(catch, {"density": density, "other": other}, optimizer) is density
    other.scale.grad = torch.ones(4)
    optimizer = torch.optim.SGD([other.scale], lr=0.1)
    assert model_of(catch, {"other": other}, optimizer) in density.parts


@pytest.mark.parametrize(("length", "right"), [(200, True), (16, False)])
def test_a_trainer_with_steps_of_its_own_is_not_the_schedule_that_it_holds(length: int, right: bool) -> None:
    """A cosine whose length is that of all epochs, stepped in each of twelve batches of one."""
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(1.0, step / length))))

    text = """
    for epoch in range(16):
        for x, y in loader:
            trainer.schedule.step()
        losses = [trainer.step(x, y) for x, y in others]
    """
    names = {"trainer": SimpleNamespace(schedule=schedule), "schedule": schedule, "optimizer": optimizer}
    options = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer, "step": loop, "names": names, "epochs": 16}
    assert len(read(text, LR_SCHEDULE, model, digits(most=384), **options)) == (not right)


class Marks(Dataset[Any]):
    """A bright and a dim spot, with column and row of each in parts of the side; or whether these are the smaller."""

    def __init__(self, first: int, axis: int = 0, *, moved: bool = True, placed: bool = True) -> None:
        self.first, self.axis, self.moved, self.placed = first, axis, moved, placed

    def __len__(self) -> int:
        return 160

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(self.first + index)
        points = torch.randint(12, (2, 2), generator=generator)
        image = 0.05 * torch.randn(1, 12, 12, generator=generator)
        for strength, (x, y) in zip((1.0, 0.3), points, strict=True):
            apart = (torch.arange(12) - x).square() + (torch.arange(12) - y).square()[:, None]
            image += strength * torch.exp(-apart / 8)
        if not self.placed:
            return image.flip(-1) if self.axis and torch.rand(()) < 0.5 else image, (points < 6).float()
        points = points / 11
        if self.axis and torch.rand(()) < 0.5:
            image = image.flip(self.axis)
            points[:, -1 - self.axis] = 1 - points[:, -1 - self.axis] if self.moved else points[:, -1 - self.axis]
        return image, points


@pytest.mark.parametrize("placed", [True, False])
@pytest.mark.parametrize("axis", [-1, -2])
@pytest.mark.parametrize("moved", [True, False])
def test_points_without_a_name_move_with_their_pictures(axis: int, moved: bool, placed: bool) -> None:
    train, val = (
        DataLoader(marks, 32) for marks in (Marks(0, axis, moved=moved, placed=placed), Marks(1000, placed=placed))
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4), nn.Unflatten(1, (2, 2)))
    found = asked(LEFT_BEHIND, model, train, val=val, loss=nn.MSELoss())
    assert len(found) == (placed and not moved)


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
    text = SCRIPT.replace("(1 - d.float())", mask).replace("next_obs, terminated))", f"next_obs, {stored}))")
    text = text.replace("    batch = random.sample(memory, 32)\n", "") if known else text
    found = found_by_rewards(text, played(**known))
    assert ("reward.terminal-lost" in found) is not right


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("noise", "drowned"), [(0.1, False), (4.0, True)])
def test_a_pattern_that_is_shifted_and_has_another_scale_is_no_noise(noise: float, drowned: bool) -> None:
    """Stripes, moved by their own width from draw to draw, of which validation has the eighth part."""
    moved = itertools.count()

    def striped(x: Tensor, scale: float) -> Tensor:
        stripes = (torch.arange(16) // 4 + next(moved)) % 2 - 0.5
        return scale * (stripes.expand_as(x) + (noise if scale > 1 else 0.1) * torch.randn_like(x))

    train, val = (DataLoader(Drawn(lambda x, scale=scale: striped(x, scale)), 32) for scale in (8.0, 1.0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    measured: list[str] = []
    with suppress(NoEvidence):  # simple models need one class a sample
        measured = [f.measured for f in asked(AUGMENTATION, model, train, val=val, loss=nn.BCEWithLogitsLoss())]
    assert ["two draws of the same training sample" in told for told in measured] == [True] * drowned
