"""Mistakes and unusual but right ways met in gauges that are read, masks, strips of hearts, and clouds of points."""

from __future__ import annotations

import ast
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
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.loss.sign.sign import SIGN
from striate.doctor.checks.model.evaluates_untrained import CHECK as EVALUATES_UNTRAINED
from striate.doctor.checks.optim.lr_schedule import LR_SCHEDULE
from striate.doctor.checks.optim.rate_too_high import LR_TOO_HIGH
from striate.doctor.script.iterated_loop import counted_beside


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


@pytest.mark.parametrize("filled", [True, False])
def test_the_largest_of_sorted_numbers_is_no_padding(filled: bool) -> None:
    """Digits, and the same sorted: only these count in the loss. Or rows that a number fills up, which count."""
    generator = torch.Generator().manual_seed(0)
    given = torch.randint(5 if filled else 6, (320, 6), generator=generator)
    both = torch.cat([given, given.sort(1)[0]], 1)
    if filled:
        lengths = torch.randint(8, 12, (320, 1), generator=generator)
        both[torch.arange(12) >= lengths] = 5
    x, y = both[:, :-1].clone(), both[:, 1:].clone()
    y[:, :5] = -1
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 16), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 6))

    def following(scores: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(scores.reshape(-1, 6), targets.reshape(-1), ignore_index=-1)

    train = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    assert bool(asked(PADDING_COUNTED, model, train, loss=following)) == filled


class Tables(nn.Module):
    """Users and items by factors; evaluation asks averages of them, which are buffers. `scale` is none."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items, self.norm = nn.Embedding(30, 6), nn.Embedding(40, 6), nn.LayerNorm(6)
        self.register_buffer("users_ema", self.users.weight.detach().clone())
        self.register_buffer("items_ema", self.items.weight.detach().clone())
        self.register_buffer("scale", torch.ones(6))

    def forward(self, pairs: Tensor) -> Tensor:
        tables = (self.users.weight, self.items.weight) if self.training else (self.users_ema, self.items_ema)
        user, item = (functional.embedding(row, table) for row, table in zip(pairs.T, tables, strict=True))
        return (self.scale * self.norm(user) * item).sum(1)


@pytest.mark.parametrize("written", [True, False])
def test_averages_in_buffers_follow_the_weights(written: bool) -> None:
    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        model.train()
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for name in ("users", "items"):
                average, weight = getattr(model, f"{name}_ema"), getattr(model, name).weight
                if written:
                    average.lerp_(weight, 0.1)
                else:
                    average = 0.9 * average + 0.1 * weight
        return value

    generator = torch.Generator().manual_seed(0)
    pairs = torch.stack([torch.randint(most, (1200,), generator=generator) for most in (30, 40)], 1)
    wanted = (torch.randn(30, 3, generator=generator)[pairs[:, 0]] * torch.randn(40, 3)[pairs[:, 1]]).sum(1)
    torch.manual_seed(0)
    model = Tables()
    train = DataLoader(TensorDataset(pairs, wanted), 30, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    found = asked(EVALUATES_UNTRAINED, model, train, optimizer=optimizer, step=step, task="regress")
    assert [finding.severity for finding in found] == ([] if written else ["error"])


def signs(kinds: int) -> tuple[nn.Module, DataLoader[Any]]:
    """A network that takes some hundred steps to tell products of signs."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1200, 10, generator=generator)
    y = (x[:, :kinds].sign().prod(1) > 0).long()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    return model, DataLoader(TensorDataset(x, y), 60, shuffle=True)


@pytest.mark.slow
@pytest.mark.parametrize(("ends", "said"), [(34, True), (40, False), (4000, False)])
def test_a_rate_that_is_gone_in_the_third_epoch_learns_little_later(ends: int, said: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("striate.doctor.evidence.evidence.STEPS", 42)  # as of a network with slow steps

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        for group in optimizer.param_groups:
            group["turns"] = group.get("turns", 0) + 1
            done = min(1.0, max(0, group["turns"] - 20) / (ends - 20))
            group["lr"] = 1e-5 + 3e-3 * 0.5 * (1 + math.cos(math.pi * done))
        optimizer.zero_grad()
        value: Tensor = loss(model(batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value

    model, train = signs(3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    assert bool(asked(LR_SCHEDULE, model, train, optimizer=optimizer, step=step)) == said


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "said"), [(0.05, True), (0.003, False)])
def test_adam_at_a_large_rate_is_behind_a_tenth_later(rate: float, said: bool, monkeypatch: Any) -> None:
    monkeypatch.setattr("striate.doctor.evidence.evidence.STEPS", 40)  # as of a network with slow steps
    model, train = signs(3)
    found = asked(LR_TOO_HIGH, model, train, optimizer=torch.optim.Adam(model.parameters(), lr=rate))
    assert bool(found) == said


@pytest.mark.parametrize(
    ("head", "turns"), [("batch in loader", None), ("self.n, batch in zip(range(steps), loader)", 240)]
)
def test_turns_beside_batches_are_counted(head: str, turns: int | None) -> None:
    loop = ast.parse(f"for {head}:\n    pass").body[0]
    assert isinstance(loop, ast.For)
    assert counted_beside(loop, {"steps": 240, "loader": [], "self": None}) == turns
