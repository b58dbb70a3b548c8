"""Mistakes and unusual but right ways met in gauges that are read, masks, strips of hearts, and clouds of points."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

import striate
from striate.doctor.checks.data.inputs.scrambled import SCRAMBLED
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE


def squares() -> tuple[Tensor, Tensor]:
    """Images with one bright square each of two kinds, and their maps of classes 0 to 2."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.zeros(240, 12, 12, dtype=torch.long)
    for number, (row, column) in enumerate(torch.randint(0, 7, (240, 2), generator=generator).tolist()):
        maps[number, row : row + 5, column : column + 5] = 1 + number % 2
    return maps[:, None].float() + 0.2 * torch.randn(240, 1, 12, 12, generator=generator), maps


@pytest.mark.parametrize("added", [True, False])
def test_a_coefficient_of_overlap_is_taken_from_one(added: bool) -> None:
    def focal_and_dice(logits: Tensor, target: Tensor) -> Tensor:
        ce = functional.cross_entropy(logits, target, reduction="none")
        probabilities, wanted = logits.softmax(1), functional.one_hot(target, 3).movedim(-1, 1).float()
        overlap = (2 * (probabilities * wanted).sum((0, 2, 3)) / (probabilities + wanted).sum((0, 2, 3))).mean()
        return ((1 - torch.exp(-ce)) ** 2 * ce).mean() + (overlap if added else 1 - overlap)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    train = DataLoader(TensorDataset(*squares()), 24, shuffle=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    found = asked(SIGN, model, train, loss=focal_and_dice, optimizer=optimizer, task="segment")
    assert [finding.severity for finding in found] == (["error"] if added else [])


@pytest.mark.parametrize(("length", "wrong"), [(30, True), (40, False), (500, False)])
def test_no_schedule_ends_in_the_middle_of_an_early_epoch(length: int, wrong: bool) -> None:
    schedules: dict[int, Any] = {}

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        if id(optimizer) not in schedules:
            schedules[id(optimizer)] = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: max(0, 1 - n / length))
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        schedules[id(optimizer)].step()
        return value

    torch.manual_seed(0)
    model = perceptron()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    found = asked(LR_SCHEDULE, model, digits(), optimizer=optimizer, step=step)
    assert [finding.severity for finding in found] == (["warning"] if wrong else [])


@pytest.mark.parametrize(("times", "said"), [(840.0, ["note"]), (1.0, [])])
def test_large_targets_are_noted_where_the_network_copes(times: float, said: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 4, generator=generator)
    y = x @ torch.tensor([[0.5], [-0.5], [0.5], [0.5]]) * times + 1.8 * times

    def clipped(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        value: Tensor = loss(model(batch[0]), batch[1])
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1000.0)
        optimizer.step()
        return value

    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    train = DataLoader(TensorDataset(x, y), 24, shuffle=True)
    found = asked(TARGET_SCALE, model, train, optimizer=optimizer, step=clipped, task="regress")
    assert [finding.severity for finding in found] == said


class Averaged(nn.Module):
    """In evaluation an average of the weights answers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(4, 16, 7, padding=3), nn.ReLU(), nn.Conv1d(16, 16, 7, 2, 3), nn.ReLU(), nn.AdaptiveMaxPool1d(1)
        )
        self.net.append(nn.Flatten()).append(nn.Linear(16, 3))
        self.average = copy.deepcopy(self.net).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        given: Tensor = self.net(x) if self.training else self.average(x)
        return given


def averaged(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
    model.train()
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0]), batch[1])
    value.backward()
    optimizer.step()
    with torch.no_grad():
        for average, own in zip(model.average.parameters(), model.net.parameters(), strict=True):
            average.lerp_(own, 0.2)
    return value


@pytest.mark.parametrize("viewed", [True, False])
def test_leads_are_put_before_time_by_permute(viewed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(600) % 3
    place = 20 + 88 * torch.rand(600, 1, generator=generator)
    beats = torch.exp(-(((torch.arange(128.0) - place) / torch.tensor([2.0, 5.0, 9.0])[y][:, None]) ** 2))
    strips = beats[..., None] * torch.tensor([1.0, -0.6, 0.8, 0.4]) + 0.1 * torch.randn(
        600, 128, 4, generator=generator
    )
    x = strips.reshape(600, 4, 128) if viewed else strips.permute(0, 2, 1).contiguous()
    torch.manual_seed(0)
    model = Averaged()
    optimizer = torch.optim.Adam(model.net.parameters(), lr=2e-3)
    train = DataLoader(TensorDataset(x, y), 40, shuffle=True)
    assert bool(asked(SCRAMBLED, model, train, optimizer=optimizer, step=averaged)) == viewed


def test_labels_are_not_at_random_where_no_step_is_made() -> None:
    """Which of four places two marks take up together, as no simple model tells."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.randn(480, 12, generator=generator).sign()
    y = (signs[:, :5].prod(1) > 0).long()

    def uncalled(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        _ = optimizer.step
        return value

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 2))
    train = DataLoader(TensorDataset(signs[:400], y[:400]), 20, shuffle=True)
    val = DataLoader(TensorDataset(signs[400:], y[400:]), 20)
    optimizer = torch.optim.Adam(model.parameters(), lr=math.exp(-7))
    found = striate.diagnose(model, train, val, optimizer=optimizer, step=uncalled, budget_seconds=20).findings
    assert [finding.code for finding in found if finding.severity == "error"] == ["optim.no-step"]
