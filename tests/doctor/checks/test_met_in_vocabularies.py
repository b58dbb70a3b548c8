"""Words that are numbered twice, recordings of two channels, tables of categories, and flags of an environment: faults
that were met in scripts, and their healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from test_met_in_second_heads import asked_or_silent, stepped
from test_reward_checks import SCRIPT, Corridor, values
from test_reward_checks import found as found_by_rewards
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.inputs.axes_dealt import AXES_DEALT
from striate.doctor.checks.data.labels.label_numbers import LABEL_MAP
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.data.targets.target_scale import TARGET_SCALE
from striate.doctor.evidence.quality import classes_of


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_scores_with_an_axis_of_length_1_are_classes(order: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    y = torch.arange(240) % 3
    x = functional.one_hot(y, 3).float() + 0.1 * torch.randn(240, 3)

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        return stepped(model, functional.cross_entropy(model(batch[0])[:, 0], batch[1]), optimizer)

    train, val = (DataLoader(TensorDataset(x, labels), 24) for labels in (y, torch.tensor(order)[y]))
    model = nn.Sequential(nn.Linear(3, 3), nn.Unflatten(1, (1, 3)))
    found = asked(LABEL_MAP, model, train, val=val, optimizer=adam, step=step)
    assert [one.code for one in found] == ["data.label-map"] * (order != (0, 1, 2))
    assert not found or "the trial's network" in found[0].measured


@pytest.mark.parametrize(("shape", "known"), [((8, 1, 3), True), ((8, 3, 1), True), ((8, 2, 3), False)])
def test_axes_of_length_1_are_the_only_ones_beside_classes(shape: tuple[int, ...], known: bool) -> None:
    assert (classes_of(torch.rand(shape), torch.arange(8) % 3) is not None) == known


@pytest.mark.parametrize("dealt", [False, True])
def test_channels_of_a_recording_come_to_the_front_by_permute(dealt: bool) -> None:
    """However rough it is."""
    recordings, labels = torch.randn(64, 20, 2), torch.arange(64) % 2

    def collate(samples: Any) -> Any:
        x = torch.stack([x for x, _ in samples])
        x = x.reshape(len(x), x.shape[2], x.shape[1]) if dealt else x.permute(0, 2, 1)
        return x, torch.stack([y for _, y in samples])

    loader = DataLoader(TensorDataset(recordings, labels), 16, collate_fn=collate)
    model = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 2))
    assert [one.code for one in asked(AXES_DEALT, model, loader)] == ["data.scrambled"] * dealt


class Categories(nn.Module):
    """A table of categories (N, 5), or tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.last = nn.Embedding(30, 4), nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.table(x).flatten(1))[:, 0]


@pytest.mark.parametrize(("ranges", "told"), [((24, 12, 8, 30, 6), True), ((6, 6, 6, 6, 6), False)])
@pytest.mark.parametrize("made_of", [4, 1])
def test_a_category_that_the_classes_are_made_of(ranges: tuple[int, ...], told: bool, made_of: int) -> None:
    """Not a token that says what class it is, nor what is told by each category of several."""
    torch.manual_seed(0)
    x = torch.stack([torch.randint(0, most, (600,)) for most in ranges], 1)
    rating = x[:, 4] if made_of == 4 else (x[:, 1] + x[:, 2]) % 6
    loader = DataLoader(TensorDataset(x, (rating > 2).float()), 50)
    options: Any = {"loss": nn.BCEWithLogitsLoss(), "optimizer": adam}
    found = asked_or_silent(TARGET_IN_INPUT, Categories(), loader, **options)
    assert [one.code for one in found] == ["data.target-in-input"] * (told and made_of == 4)


class TwoHeads(nn.Module):
    """A class and a speed."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.kind, self.speed = nn.Linear(8, 32), nn.Linear(32, 2), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        inside = self.body(x).relu()
        return self.kind(inside), self.speed(inside)[:, 0]


@pytest.mark.parametrize("size", [1.0, 500.0])
def test_a_large_target_drowns_the_classes_beside_it(size: float) -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    kinds, speeds = (x[:, :2].prod(1) > 0).long(), size * (1 + 0.3 * x[:, 4].tanh())

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        kind, speed = model(batch[0])
        loss = functional.cross_entropy(kind, batch[1]) + functional.mse_loss(speed, batch[2])
        return stepped(model, loss, optimizer)

    loader = DataLoader(TensorDataset(x, kinds, speeds), 32)
    found = asked_or_silent(TARGET_SCALE, TwoHeads(), loader, optimizer=adam, step=step)
    assert [one.code for one in found] == ["data.target-scale"] * (size > 1)


ROOM = """
class Room:
    def reset(self): ...
    def step(self, action):
        return self.place, reward, {}, {{}}
"""


@pytest.mark.parametrize(("given", "named"), [("terminated, truncated", True), ("truncated, terminated", False)])
@pytest.mark.parametrize("own", [False, True])
def test_flags_that_get_the_names_of_each_other(own: bool, given: str, named: bool) -> None:
    """Not those of an environment of the script's own that gives them in this order."""
    assert "terminated, truncated, _" in SCRIPT
    text = SCRIPT.replace("terminated, truncated, _", "truncated, terminated, _")
    if own:
        text = ROOM.format(given).replace("Room", "Corridor") + text
    found = found_by_rewards(text, values(env=Corridor()))
    assert found == ["reward.terminal-lost"] * (named or not own)


def test_flags_that_are_only_asked_for_together_may_be_exchanged() -> None:
    text = SCRIPT.replace("terminated, truncated, _", "truncated, terminated, _")
    found = found_by_rewards(text.replace("next_obs, terminated))", "next_obs, done))"), values())
    assert found == ["reward.truncated-terminal"]
