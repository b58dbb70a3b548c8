"""Numbers that are standardized for training alone, labels beside other inputs than their own, several labels of which
augmentation takes one away, losses that are objects; and their twins."""

from __future__ import annotations

import ast
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from test_data_augmented import Drawn, Wedges
from test_reward_checks import SCRIPT
from test_reward_checks import found as found_by_rewards
from test_reward_checks import values as played
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.augmentation.augmentation import AUGMENTATION
from striate.doctor.checks.data.labels.label_noise import LABEL_NOISE
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.fit.generalization import OVERFIT
from striate.doctor.checks.loss.broadcast import BROADCAST_OF_VARIABLES
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.evidence.predictions import Predictions
from striate.doctor.setup.script_source import ScriptSource


@pytest.mark.parametrize(("unit", "kept"), [(20.0, False), (1.0, True)])
def test_targets_in_another_unit_are_brought_to_that_of_training(unit: float, kept: bool) -> None:
    y = torch.linspace(-1.5, 1.5, 50)
    val = Predictions(y, unit * y + (100 if unit > 1 else 0), 0.0)
    moved = val.in_unit_of(Predictions(y, y, 0.0))
    assert (moved is val) is kept
    assert moved.targets is not None
    assert torch.allclose(moved.targets, y, atol=1e-4)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("prepared", [True, False])
def test_prices_of_validation_stay_what_they_are(prepared: bool) -> None:
    """Training has standardized prices, validation prices; where its inputs lack what was done to training's, they are
    told."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(600, 6, generator=generator)
    y = x @ torch.tensor([1.0, -2.0, 0.5, 0, 0, 1]) + 0.1 * torch.randn(600, generator=generator)
    train = DataLoader(TensorDataset(x[:400], ((y - y.mean()) / y.std())[:400, None]), 32, shuffle=True)
    val = (x[400:] if prepared else 10 * x[400:] + 40, 30 * y[400:, None] + 250)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    found = [
        f.code
        for c in (SHIFT, OVERFIT)
        for f in asked(c, model, train, val=val, loss=nn.MSELoss(), optimizer=optimizer)
    ]
    assert ("data.shift" in found) is not prepared
    assert found == [] or not prepared


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("apart", [True, False])
def test_labels_that_lie_beside_other_images_are_not_taken_for_augmentation(apart: bool) -> None:
    torch.manual_seed(0)
    train, val = Wedges(lambda x: x.roll(1, -1), 300), Wedges(lambda x: x, 200)
    if apart:
        train.y = train.y[torch.randperm(300)]
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 4))
    loaders = DataLoader(train, 32, shuffle=True), DataLoader(val, 100)
    said = [f.code for c in (LABELS_RANDOM, AUGMENTATION) for f in asked(c, model, loaders[0], val=loaders[1])]
    assert said == ["data.labels-random"] * apart


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("taken", [True, False])
def test_one_of_several_labels_is_taken_away(taken: bool) -> None:
    """The upper half tells one label, the lower half the other, of which noise hides nothing or all."""

    def change(x: Tensor) -> Tensor:
        lower = torch.rand(1, 1, 1).round() + 0.1 * torch.randn(1, 8, 16)
        return torch.cat([x[:, :8], lower], 1) if taken else x + 0.1 * torch.randn_like(x)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    nn.init.zeros_(model[1].weight)  # else what it makes of the lower half is what it began with
    train, val = (DataLoader(Drawn(way), 32) for way in (change, lambda x: x))
    measured: list[str] = []
    with suppress(NoEvidence):
        measured = [f.measured for f in asked(AUGMENTATION, model, train, val=val, loss=nn.BCEWithLogitsLoss())]
    assert ["of label 1 of 2" in told for told in measured] == [True] * taken


@pytest.mark.parametrize("column", [True, False])
def test_a_loss_that_is_an_object_compares_a_column_with_a_row(column: bool) -> None:
    text = SCRIPT + "\ncriterion(chosen, targets)\n"
    chosen = torch.rand(32, 1) if column else torch.rand(32)
    names: dict[str, Any] = played(criterion=nn.SmoothL1Loss(), chosen=chosen, targets=torch.rand(32))
    assert ("loss.broadcast" in found_by_rewards(text, names)) is column
    assert BROADCAST_OF_VARIABLES.of_source


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("named", ["noisy_labels", "labels"])
def test_labels_that_a_script_makes_wrong_are_noted(named: str) -> None:
    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(len(y), generator=generator) < 0.3
    train = DataLoader(TensorDataset(x, torch.where(wrong, (y + 3) % 10, y)), 32, shuffle=True)
    source = ScriptSource({"t.py": ast.parse(f"for x, {named} in loader:\n    pass")}, {}, ("t.py", 1, 2), 5)
    said = asked(LABEL_NOISE, perceptron(), train, source=source)
    assert [one.severity for one in said] == ["note" if "noisy" in named else "warning"]
