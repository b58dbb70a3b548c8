"""`model.receptive-field`: do units see enough of the input before their map is pooled to one position?"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, quick_adam, said
from for_checks.networks import seeded
from striate.doctor.checks.model.receptive_field import RECEPTIVE_FIELD, _window
from striate.doctor.checks.optim.lr_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import NoEvidence


class Recurrent(nn.Module):
    """A forecast from one state of a recurrence along 10 steps, which is that of a layer or of a cell."""

    def __init__(self, place: int, cell: bool, turned: bool) -> None:
        super().__init__()
        self.layer = nn.GRUCell(2, 12) if cell else nn.GRU(2, 12, batch_first=True)
        self.last, self.place, self.turned = nn.Linear(12, 1), place, turned

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.turned else x
        if isinstance(self.layer, nn.GRU):
            return self.last(self.layer(x)[0][:, self.place]).squeeze(1)
        states = [torch.zeros(len(x), 12)]
        for step in x.unbind(1):
            states.append(self.layer(step, states[-1]))
        return self.last(states[1:][self.place]).squeeze(1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "cell", "turned", "wrong"),
    [(-1, False, False, ""), (0, False, False, "first"), (-1, True, False, ""), (0, True, True, "last")],
)
def test_a_state_that_has_seen_one_step_is_reported(place: int, cell: bool, turned: bool, wrong: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(160, 10, 2)
    loader = DataLoader(TensorDataset(x, x.mean((1, 2))), 16)
    found = said(RECEPTIVE_FIELD, Recurrent(place, cell, turned), loader, loss=nn.MSELoss())
    assert [f"only the {wrong} one changes the predictions" in f.measured for f in found] == [True] * bool(wrong)


def spots() -> DataLoader[Any]:
    """Two spots in a row of 48, near each other or far apart."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.zeros(320, 1, 48), torch.arange(320) % 2
    for row, apart in enumerate((7 + 6 * y).tolist()):
        place = int(torch.randint(0, 48 - apart, (), generator=generator))
        x[row, 0, [place, place + apart]] = 1.0
    return DataLoader(TensorDataset(x, y), 32, shuffle=True)


def signals(stride: int = 1, norm: bool = False) -> nn.Module:
    norms = [nn.GroupNorm(4, 16)] if norm else []
    first = nn.Conv1d(1, 16, 3, stride=stride, padding=1)
    second = nn.Conv1d(16, 16, 3, stride=stride, padding=1)
    pool = nn.AdaptiveMaxPool1d(1)
    return nn.Sequential(first, *norms, nn.ReLU(), second, nn.ReLU(), pool, nn.Flatten(), nn.Linear(16, 2))


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("norm", [False, True])
def test_a_view_too_small_for_what_decides(norm: bool) -> None:
    (found,) = asked(RECEPTIVE_FIELD, seeded(lambda: signals(norm=norm)), spots(), optimizer=quick_adam)
    assert (found.code, found.severity) == ("model.receptive-field", "warning")
    assert "sees 5 of 48 positions, 10 % of a side" in found.measured
    assert "with 6 times the dilation, the loss after" in found.measured


@pytest.mark.slow
def test_without_moving_weights_the_receptive_field_is_not_judged() -> None:
    """A rate of zero, on what the narrow view could not learn either."""
    still = dict[str, Any](optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    with pytest.raises(NoEvidence, match="no step moves a weight"):
        asked(RECEPTIVE_FIELD, seeded(signals), spots(), **still)
    (found,) = asked(LR_TOO_LOW, seeded(signals), spots(), **still)
    assert found.severity == "error"
    assert found.measured.startswith("the rate is 0; with lr 0.")


def test_a_small_view_that_is_enough() -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(320) % 2
    coarse = torch.randn(320, 1, 24, generator=generator).repeat_interleave(2, 2)
    fine = torch.randn(320, 1, 48, generator=generator)
    loader = DataLoader(TensorDataset(torch.where(y[:, None, None] == 0, coarse, fine), y), 32, shuffle=True)
    assert not asked(RECEPTIVE_FIELD, seeded(signals), loader, optimizer=quick_adam)


@pytest.mark.parametrize(("given", "window"), [((50, 1, 1, 1), (1, 1)), ((50, 3, 4, 4), (1.0, 0.25))])
def test_one_number_for_all_places_is_no_window(given: tuple[int, ...], window: tuple[float, float]) -> None:
    share_of_a_blend: Any = SimpleNamespace(name="mul", input_shapes=(given,), shape=(50, 3, 16, 16))
    assert _window(share_of_a_blend, 0) == window


def test_a_map_that_is_flattened_is_seen_whole() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv1d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 46, 2)))
    assert not asked(RECEPTIVE_FIELD, model, spots(), optimizer=quick_adam)
