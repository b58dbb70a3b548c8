"""Mirrored images that keep labels whose names differ only in left and right."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

from for_checks.asked import adam, read, stepped
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND

_SIDES = ["Bright", "Lamp_Left", "Lamp_Right"]
_ORDER = [0, 2, 1]
LOOP = "for x, y in loader:\n    pass\n"


def _rooms() -> tuple[Tensor, Tensor]:
    """Noisy images with a lamp on the left, on the right, on both sides or on none."""
    drawn = torch.Generator().manual_seed(0)
    y = (torch.rand(96, 3, generator=drawn) < 0.5).float()
    x = torch.randn(96, 1, 12, 12, generator=drawn)
    x[:, 0, 4:8, 1:4] += 3 * y[:, 1, None, None]
    x[:, 0, 4:8, 8:11] += 3 * y[:, 2, None, None]
    return x + y[:, 0, None, None, None], y


def _mirrored(x: Tensor, y: Tensor, exchanges: bool) -> tuple[Tensor, Tensor]:
    flip = torch.rand(len(x)) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x).roll(int(torch.randint(3, ())), -1)
    return x, torch.where(flip[:, None], y[:, _ORDER], y) if exchanges else y


_PARAMETERS = [(_SIDES, False, True), (_SIDES, True, False), (["Bright", "Lamp", "Chair"], False, False)]


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(576, 3))


@pytest.mark.parametrize(("names", "exchanges", "wrong"), _PARAMETERS)
def test_labels_that_the_step_leaves_on_their_side(names: list[str], exchanges: bool, wrong: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x, y = _mirrored(*batch, exchanges)
        return stepped(functional.binary_cross_entropy_with_logits(model(x), y), optimizer)

    loader = DataLoader(TensorDataset(*_rooms()), 32)
    found = read(LOOP, LEFT_BEHIND, _network(), loader, optimizer=adam, step=step, names={"NAMES": names})
    assert ["such as Lamp_Left and Lamp_Right" in one.measured for one in found] == [True] * wrong


class _Rooms(Dataset[Any]):
    def __init__(self, classes: list[str], exchanges: bool) -> None:
        self.classes, self.exchanges, (self.x, self.y) = classes, exchanges, _rooms()

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        x, y = _mirrored(self.x[number][None], self.y[number][None], self.exchanges)
        return x[0], y[0]


@pytest.mark.parametrize(("names", "exchanges", "wrong"), _PARAMETERS)
def test_labels_that_the_data_set_leaves_on_their_side(names: list[str], exchanges: bool, wrong: bool) -> None:
    torch.manual_seed(0)
    loader = DataLoader(_Rooms(names, exchanges), 32)
    found = read(LOOP, LEFT_BEHIND, _network(), loader, loss=nn.BCEWithLogitsLoss(), optimizer=adam)
    assert ["such as Lamp_Left and Lamp_Right" in one.measured for one in found] == [True] * wrong
