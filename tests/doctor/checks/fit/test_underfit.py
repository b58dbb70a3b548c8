"""`fit.underfit`: does the training error stay high, though the data can be learned?"""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, perceptron
from striate.doctor.checks.fit.underfit import UNDERFIT
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def adam(model: nn.Module, lr: float = 5e-3, **options: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr, **options)


def moons() -> DataLoader[Any]:
    """Four squares of a chess board: no straight line parts them."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(400, 2, generator=generator) - 1
    return DataLoader(TensorDataset(x, (x[:, 0] * x[:, 1] > 0).long()), 50, shuffle=True, generator=generator)


@pytest.mark.slow
def test_a_straight_line_is_too_little() -> None:
    torch.manual_seed(0)
    model = nn.Linear(2, 2)
    (found,) = asked(UNDERFIT, model, moons(), loss=LOSS, optimizer=adam(model))
    assert (found.code, found.severity) == ("fit.underfit", "warning")
    assert "simple models get" in found.measured
    assert "6 parameters" in found.measured


def test_a_network_that_only_learns_slowly_does_not_underfit() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 2))
    optimizer = torch.optim.SGD(model.parameters(), 1e-3)
    assert not asked(UNDERFIT, model, moons(), loss=LOSS, optimizer=optimizer)


def test_labels_that_nobody_can_know_are_no_underfit() -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(256, 64, generator=generator), torch.randint(4, (256,), generator=generator))
    model = nn.Linear(64, 4)
    assert not asked(UNDERFIT, model, DataLoader(data, 64), loss=LOSS, optimizer=adam(model))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("epochs", "faulty"), [(2, True), (40, False), (1, False)])
def test_a_training_that_ends_before_it_is_done(epochs: int, faulty: bool) -> None:
    model = perceptron()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    source = ScriptSource({"script.py": ast.parse("pass")}, {}, ("script.py", 1, 2), epochs)
    setup = make_setup(model, digits(64), digits(100, 200), optimizer=optimizer, source=source)
    with state_preserved(setup):
        said = list(UNDERFIT.run(Evidence(setup, Clock(120.0))))
    assert ["steps in all" in finding.measured for finding in said] == [True] * faulty
