"""Schedules in a row, averages that hardly move and noise that drowns points: faults that were met in scripts, and
their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import digits, perceptron
from test_met_in_second_heads import asked_or_silent
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.optim.lr_scheduler import LinearLR, SequentialLR, StepLR
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.optim.scheduler_calls import CHECK as SCHEDULER_CALLS
from striate.doctor.checks.own_run import findings_of
from striate.doctor.evidence.own_run import Watcher, number_of_weights

STEPPED = """
def train(loader, schedule):
    for x, y in loader:
        step(model, x, y)
        schedule.step()
"""


@pytest.mark.parametrize(("each", "begins", "wrong"), [(5, 1, True), (100, 20, False), (5, 20, False)])
def test_a_warmup_and_steps_down_that_come_with_each_batch(each: int, begins: int, wrong: bool) -> None:
    """Of which 20 are an epoch: where lengths are those of epochs, the rate is gone within the first."""
    model, train = perceptron(), digits()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    parts: list[Any] = [LinearLR(optimizer, 0.2, total_iters=begins), StepLR(optimizer, each, 0.1)]
    names = {"model": model, "schedule": SequentialLR(optimizer, parts, [begins])}
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": optimizer}
    said = read(STEPPED, SCHEDULER_CALLS, model, train, names=names, **options)
    assert [one.code for one in said] == ["optim.lr-schedule"] * wrong


@pytest.mark.parametrize(("decay", "each", "wrong"), [(0.9999, 20, True), (0.9, 20, False), (0.9999, 1, False)])
def test_an_average_that_hardly_moves_until_the_end(decay: float, each: int, wrong: bool) -> None:
    torch.manual_seed(0)
    model, average = nn.Linear(3, 1), nn.Linear(3, 1).requires_grad_(False)
    average.load_state_dict(model.state_dict())
    watcher = Watcher(float("inf"), {id(model): "model", id(average): "average"})
    watcher.of(model).first = [parameter.detach().clone() for parameter in model.parameters()]
    watcher.of(model).before = number_of_weights(model)
    optimizer, x = torch.optim.SGD(model.parameters(), 0.05), torch.randn(32, 3)

    def ask(network: nn.Module) -> Tensor:
        watcher.enter(network, (x,))
        output: Tensor = network(x)
        watcher.leave(network, (x,), output)
        return output

    for step in range(120):
        (ask(model) - x.sum(1, keepdim=True)).square().mean().backward()
        watcher.stepping(optimizer)
        optimizer.step()
        optimizer.zero_grad()
        for a, p in zip(average.parameters(), model.parameters(), strict=True):
            a.lerp_(p.detach(), 1 - decay)
        if step % each == each - 1:  # at each step, as a teacher
            ask(average)
    watcher.run.ended = True
    assert [one.code for one in findings_of(watcher.run)] == ["model.evaluates-untrained"] * wrong


class Points(Dataset[Any]):
    """A set of points for each of two classes, a line or a ball, in another order with each draw, with noise."""

    def __init__(self, noise: float, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(128) % 2
        self.points = scale * torch.randn(128, 24, 3, generator=generator)
        self.points[self.labels == 0, :, 1:] = 0
        self.noise = noise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        points = self.points[number][torch.randperm(24)]
        return points + self.noise * torch.randn(24, 3), self.labels[number]


class OfPoints(nn.Module):
    """A network of sets of points."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.each, self.last = nn.Sequential(nn.Linear(3, 32), nn.ReLU()), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.each(x).amax(1))


@pytest.mark.parametrize(("noise", "scale", "drowned"), [(50.0, 1.0, True), (0.02, 1.0, False), (0.02, 5.0, False)])
def test_noise_that_drowns_points(noise: float, scale: float, drowned: bool) -> None:
    """Not where they are in another order with each draw, and larger than in validation."""
    model = OfPoints()
    options: Any = {"loss": nn.CrossEntropyLoss(), "optimizer": torch.optim.Adam(model.parameters(), 0.01)}
    train, val = DataLoader(Points(noise, scale), 32, shuffle=True), DataLoader(Points(0.0), 32)
    said = asked_or_silent(AUGMENTATION, model, train, val=val, **options)
    assert ["differ by" in one.measured for one in said] == [True] * drowned
