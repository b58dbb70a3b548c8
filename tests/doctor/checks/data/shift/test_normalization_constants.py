"""Constants by which data sets of one class normalize samples, such as mean and standard deviation, that differ between
training and validation."""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from striate.doctor.checks.data.shift.normalization_constants import differing_constants, differing_test_constants
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import ScriptSource
from striate.doctor.setup.training_setup import make_setup


class Prepared(Dataset[Any]):
    def __init__(self, x: Tensor, mean: float, std: float, noise: float) -> None:
        self.x, self.mean, self.std, self.noise = x, mean, std, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        x = (self.x[place] - self.mean) / self.std
        return x + self.noise * torch.randn_like(x), place % 2


@pytest.mark.parametrize(
    ("mean", "std", "noise", "wrong"), [(0.0, 1.0, 0.0, True), (4.0, 2.0, 0.0, False), (4.0, 2.0, 0.5, False)]
)
def test_a_data_set_that_lacks_the_numbers_of_that_of_training(
    mean: float, std: float, noise: float, wrong: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = (4 + 2 * torch.randn(2, 64, 1, 8, 8, generator=generator)).unbind()
    train, val = Prepared(parts[0], 4.0, 2.0, 0.0), Prepared(parts[1], mean, std, noise)
    setup = make_setup(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), *(DataLoader(part, 16) for part in (train, val)))
    told = differing_constants(Evidence(setup, Clock(20.0)), (parts[0] - 4) / 2)
    assert ("`mean` and `std`" in told) is wrong


class Module:
    def __init__(self, train: Any, val: Any, test: Any) -> None:
        self.train_set, self.val_set, self.test_set = train, val, test


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize(
    ("val", "test", "noise", "wrong"),
    [
        ((4.0, 2.0), (0.0, 1.0), 0.0, True),
        ((4.0, 2.0), (4.0, 2.0), 0.0, False),
        ((4.0, 2.0), (4.0, 2.0), 0.5, False),  # samples with noise, on purpose
        ((0.0, 1.0), (0.0, 1.0), 0.0, False),  # the step of evaluation may normalize both
    ],
)
def test_testing_has_the_numbers_of_training(val: Any, test: Any, noise: float, wrong: bool, held: bool) -> None:
    """As variables, or held by an object, beside a data set of raw samples that is no test."""
    generator = torch.Generator().manual_seed(0)
    x = (4 + 2 * torch.randn(3, 64, 1, 8, 8, generator=generator)).unbind()
    sets = [Prepared(x[0], 4.0, 2.0, 0.0), Prepared(x[1], *val, 0.0), Prepared(x[2], *test, noise)]
    names: dict[str, Any] = dict(zip(("train_set", "val_set", "test_set"), sets, strict=True))
    names = {"module": Module(*sets)} if held else names | {"raw_set": Prepared(x[0], 0.0, 1.0, 0.0)}
    source = ScriptSource({"a.py": ast.parse("for x, y in loader:\n    pass\n")}, names, ("a.py", 1, 2), 5)
    loaders = (DataLoader(part, 16) for part in sets[:2])
    setup = replace(make_setup(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), *loaders), source=source)
    told = differing_test_constants(Evidence(setup, Clock(20.0)), (x[0] - 4) / 2)
    assert ("data set of `test_set` has its own `mean` and `std`" in told) is wrong
