"""Networks that keep their parts in lists and are never called themselves, schedules beside trainers with steps of
their own; and their twins."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from asked import digits, loop, perceptron
from test_met_in_vision_scripts import read
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.script.run_script import _Catch, _model


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
    catch = _Catch(60, modules={number: (part, {}) for number, part in enumerate(density.parts)})
    optimizer = torch.optim.SGD(density.parameters(), lr=0.1)
    assert _model(catch, {"density": density, "other": other}, optimizer) is density
    other.scale.grad = torch.ones(4)
    optimizer = torch.optim.SGD([other.scale], lr=0.1)
    assert _model(catch, {"other": other}, optimizer) in density.parts


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
