"""Targets that steps leave behind, callbacks that compare the other way, evaluations under any name, schedules that
callbacks step, parts that are trained; and their twins."""

from __future__ import annotations

import math
import operator
from typing import Any

import pytest
import torch
from asked import asked, digits, loop, perceptron
from test_met_in_vision_scripts import read
from test_source_checks import SCRIPT, found, values
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.moved.targets_moved import LEFT_BEHIND
from striate.doctor.checks.eval.best import WORST_KEPT
from striate.doctor.checks.eval.evaluated import asked_directly
from striate.doctor.checks.eval.modes import MODE
from striate.doctor.checks.loss.initial_off import INITIAL_OFF
from striate.doctor.checks.loss.sign.distances_as_scores import distances_asked
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.steps import PARAMETERS_MISSING
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def spots(count: int, seed: int, mapped: bool) -> DataLoader[Any]:
    """Bright columns, with their place from -1 to 1 and their height, or with a map of where they are."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(12, (count,), generator=generator)
    images = 0.1 * torch.randn(count, 1, 12, 12, generator=generator)
    images += (torch.arange(12) == place[:, None]).float()[:, None, None]
    points = torch.stack([place / 5.5 - 1, torch.rand(count, generator=generator)], 1)
    return DataLoader(TensorDataset(images, (images > 0.5).float() if mapped else points), 32)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("mapped", "left"), [(False, True), (False, False), (True, True), (True, False)])
def test_what_a_step_mirrors_takes_its_targets_along(mapped: bool, left: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        x, y = batch
        if torch.rand(()) < 0.7:
            x = x.flip(-1)
            moved = y.flip(-1) if mapped else y * torch.tensor([-1.0, 1.0])
            y = y if left else moved
        optimizer.zero_grad()
        value: Tensor = loss(model(x), y)
        value.backward()
        optimizer.step()
        return value.detach()

    points = nn.Sequential(nn.Flatten(), nn.Linear(144, 2))
    model = nn.Conv2d(1, 1, 3, padding=1) if mapped else points
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    options = {"loss": functional.mse_loss, "optimizer": optimizer, "step": step, "val": spots(100, 1, mapped)}
    said = asked(LEFT_BEHIND, model, spots(320, 0, mapped), **options)
    assert ["steps mirror" in one.measured for one in said] == [True] * left


class SaveBest:
    """Keeps the epoch of the best number, whichever way it is better."""

    def __init__(self, monitor: str, better: Any) -> None:
        self.monitor, self.better, self.best = monitor, better, math.nan


@pytest.mark.parametrize(
    ("monitor", "better", "right"),
    [
        ("valid_loss", operator.gt, False),
        ("valid_loss", torch.lt, True),
        ("accuracy", operator.lt, False),
        ("accuracy", operator.gt, True),
        ("reward", operator.lt, True),
    ],
)
def test_a_callback_that_compares_knows_which_way_is_better(monitor: str, better: Any, right: bool) -> None:
    names = values() | {"callback": SaveBest(monitor, better)}
    text = SCRIPT + "callback = SaveBest(monitor, better)\n"
    assert list(found(text, names, [WORST_KEPT])) == ["eval.worst-kept"] * (not right)


@pytest.mark.parametrize(
    ("first", "inside", "right"),
    [
        ("", "model(x)", False),
        ("model.eval()", "model(x)", True),
        ("", "model(torch.randn(4, 1, 8, 8))", True),
        ("model.train()", "model(x)", True),
    ],
)
def test_what_runs_over_data_in_each_epoch_is_an_evaluation(first: str, inside: str, right: bool) -> None:
    text = f"""
@torch.no_grad()
def reconstruct():
    {first or "pass"}
    return [{inside} for x, y in val_loader]

def export():
    model.eval()

for epoch in range(5):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    error = reconstruct()
export()
"""
    assert list(found(text, values(), [MODE])) == ["eval.mode"] * (not right)


@pytest.mark.parametrize("inside", ["model(x)", "model.encode(x)"])
def test_features_are_computed_in_evaluation_mode(inside: str) -> None:
    class Encoder(nn.Sequential):
        def encode(self, x: Tensor) -> Tensor:
            return x

    text = f"""
@torch.no_grad()
def extract():
    return [{inside} for x in images]

for epoch in range(5):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
features = extract()
"""
    names = values()
    model = Encoder(*names["model"])
    names |= {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1)}
    assert list(found(text, names, [MODE])) == ["eval.mode"]


@pytest.mark.parametrize(("make", "right"), [("tune(model)", True), ("tell(model)", False)])
def test_who_is_unfrozen_may_get_an_optimizer_in_another_function(make: str, right: bool) -> None:
    model = perceptron()
    for parameter in model[1].parameters():
        parameter.requires_grad = False
    optimizer = torch.optim.Adam(model[3].parameters())
    text = f"""
    def tune(net):
        optimizer = torch.optim.SGD(net.parameters(), 0.1)

    for epoch in range(5):
        for x, y in loader:
            step(x, y)
        if epoch == 2:
            for p in body.parameters():
                p.requires_grad = True
            {make}
    """
    names = {"model": model, "body": model[1], "optimizer": optimizer, "torch": torch}
    said = read(text, PARAMETERS_MISSING, model, digits(), loss=LOSS, optimizer=optimizer, names=names)
    assert len(said) == (not right)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_new_head_on_trained_features_begins_as_it_may(frozen: bool) -> None:
    model = perceptron(256)
    with torch.no_grad():
        model[1].weight.mul_(30)
    if frozen:
        for parameter in model[1].parameters():
            parameter.requires_grad = False
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    options = {"loss": LOSS, "optimizer": optimizer, "step": loop}
    if frozen:
        with pytest.raises(NoEvidence, match="a small part"):
            asked(INITIAL_OFF, model, digits(), **options)
    else:
        assert len(asked(INITIAL_OFF, model, digits(), **options)) == 1


def test_a_new_head_that_is_given_features_begins_as_it_may() -> None:
    trunk, head = perceptron(256)[:3], nn.Linear(256, 10)
    with torch.no_grad():
        trunk[1].weight.mul_(30)

    def step(model: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        with torch.no_grad():
            features = trunk(batch[0])
        return loop(model, (features, batch[1]), optimizer, loss)

    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    with pytest.raises(NoEvidence, match="another one computes"):
        asked(INITIAL_OFF, head, digits(), loss=LOSS, optimizer=optimizer, step=step)


@pytest.mark.parametrize(("outputs", "known"), [(9, False), (10, True)])
def test_grades_of_which_each_asks_for_a_threshold_are_no_classes(outputs: int, known: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.binary_cross_entropy_with_logits(
            net(batch[0]), (batch[1][:, None] > torch.arange(outputs)).float()
        )
        value.backward()
        optimizer.step()
        return value.detach()

    setup = make_setup(model, digits(), digits(64), optimizer=torch.optim.Adam(model.parameters()), step=step)
    assert (asked_directly(Evidence(setup, Clock(60.0))) is not None) is known


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("passes", "right"), [(400, True), (2, False)])
def test_a_schedule_of_a_callback_is_stepped_as_often_as_the_trial_did(passes: int, right: bool) -> None:
    """One that rises for long, in a training as long, is on its way; in a short one it never gets there."""
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    schedule = OneCycleLR(optimizer, 2e-3, total_steps=20 * 400, div_factor=1e3)

    def step(net: nn.Module, batch: Any, own: Any, loss: Any) -> Tensor:
        value = loop(net, batch, own, loss)
        schedule.step()
        return value

    text = "for epoch in range(epochs):\n    for x, y in loader:\n        callback.after_step()"
    names = {"model": model, "optimizer": optimizer, "schedule": schedule, "torch": torch}
    options = {"loss": LOSS, "optimizer": optimizer, "step": step, "names": names, "epochs": passes}
    assert len(read(text, LR_SCHEDULE, model, digits(), **options)) == (not right)


def test_probabilities_are_no_distances() -> None:
    class Sure(nn.Module):
        """Probabilities of which the right class has the lowest as often as not."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = perceptron()

        def forward(self, x: Tensor) -> Tensor:
            return (self.inner(x) * 1e-3).softmax(1)

    x, _ = digits().dataset.tensors  # type: ignore[attr-defined]
    model = Sure()
    worst = model(x).argmin(1)
    data = DataLoader(TensorDataset(x, worst), 32)
    setup = make_setup(model, data, None, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 1e-6), step=loop)
    assert distances_asked(Evidence(setup, Clock(60.0))) is None
