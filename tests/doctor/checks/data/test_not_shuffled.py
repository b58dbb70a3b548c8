"""`data.not-shuffled`: batches of similar targets, because the data are sorted by target."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import adam, asked, asked_in_script, perceptron, pixels, stepped
from for_checks.graphs import GraphMessages, of_classes, step_over_graphs, together
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED, between_stretches
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


def momentum(parameters: object) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)  # type: ignore[arg-type]


class Located(nn.Module):
    """A class and a place for each image."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        self.classes, self.places = nn.Linear(32, 10), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(x)
        return self.classes(hidden), self.places(hidden)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("ordered", [True, False])
def test_a_class_beside_a_place_has_an_order(ordered: bool) -> None:
    x, y = pixels(320)
    order = y.argsort(stable=True) if ordered else torch.arange(len(y))
    data = TensorDataset(x[order], y[order], torch.rand(len(y), 2, generator=torch.Generator().manual_seed(0)))

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        classes, places = model(batch[0])
        value = functional.smooth_l1_loss(places, batch[2]) + functional.cross_entropy(classes, batch[1])
        value.backward()
        optimizer.step()
        return value

    torch.manual_seed(0)
    found: list[Any] = []
    with suppress(NoEvidence):
        found = asked(NOT_SHUFFLED, Located(), DataLoader(data, 32), optimizer=momentum, step=step, task="regress")
    assert [one.code for one in found] == ["data.not-shuffled"] * ordered


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("size", [8, 32, 64])
def test_sorted_classes_are_found_whatever_the_batch(size: int) -> None:
    x, y = pixels(640)
    order = y.argsort(stable=True)
    loader = DataLoader(TensorDataset(x[order], y[order]), size)
    (finding,) = asked(NOT_SHUFFLED, perceptron(), loader, optimizer=momentum)
    assert "with shuffled batches the accuracy after" in finding.measured
    assert "shuffle=True" in finding.remedy


def test_numbers_in_order_are_found() -> None:
    x = torch.randn(480, 5, generator=torch.Generator().manual_seed(0)).sort(dim=0).values
    y = x.sum(1, keepdim=True)
    loader = DataLoader(TensorDataset(x, y), 24)
    found = asked(NOT_SHUFFLED, nn.Linear(5, 1), loader, loss=nn.MSELoss(), task="regress")
    assert [finding.code for finding in found] == ["data.not-shuffled"]


def test_an_order_by_chance_needs_no_shuffling() -> None:
    assert not asked(NOT_SHUFFLED, perceptron(), DataLoader(TensorDataset(*pixels(640)), 32))


def test_the_variance_between_stretches() -> None:
    sorted_ones = functional.one_hot(torch.arange(4).repeat_interleave(40)).double()
    turns = functional.one_hot(torch.arange(4).repeat(40)).double()
    assert between_stretches(sorted_ones, 20) == pytest.approx(1)
    assert between_stretches(turns, 20) == 0
    assert between_stretches(torch.ones(80, 1).double(), 20) == 0


@pytest.mark.parametrize("ordered", [True, False])
def test_classes_one_after_the_other_of_a_network_that_embeds(ordered: bool) -> None:
    torch.manual_seed(0)
    labels = torch.arange(40).repeat_interleave(8) if ordered else torch.randperm(320) % 40
    centers, network = nn.Parameter(torch.randn(40, 6)), nn.Linear(6, 6)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch[0]) @ centers.T, batch[1])
        loss.backward()
        optimizer.step()
        return loss.detach()

    batches = DataLoader(TensorDataset(torch.randn(320, 6), labels), 32)
    found = asked(NOT_SHUFFLED, network, batches, step=step)
    assert [one.code for one in found] == ["data.not-shuffled"] * ordered


@pytest.mark.parametrize("ordered", [True, False])
def test_graphs_of_a_batch_are_counted_and_not_their_nodes(ordered: bool) -> None:
    train: Any = DataLoader(of_classes(160, ordered), 16, collate_fn=together)  # type: ignore[arg-type]
    model = GraphMessages()
    options: dict[str, Any] = {"optimizer": torch.optim.SGD(model.parameters(), 1e-2), "step": step_over_graphs}
    said = asked(NOT_SHUFFLED, model, train, **options)
    assert [one.code for one in said] == ["data.not-shuffled"] * ordered
    assert all("stretches of 16 samples" in one.measured for one in said)


@pytest.mark.parametrize(("order", "wrong"), [("kinds", True), ("chance", False), ("lengths", False)])
def test_tagged_sentences_in_the_order_of_their_kinds(order: str, wrong: bool) -> None:
    """Not in that of their lengths, though long ones have more tags."""
    torch.manual_seed(0)
    length, kind = torch.randint(3, 13, (480,)), torch.arange(480) // 120
    words = torch.randint(1, 9, (480, 12))
    tags = torch.where(words < 4, kind[:, None] % 4, 4)
    by = {"kinds": torch.arange(480), "chance": torch.randperm(480), "lengths": length.argsort()}[order]
    batches = []
    for rows in by.split(32):
        width = int(length[rows].max())
        beyond = torch.arange(width) >= length[rows, None]
        batches.append((words[rows, :width].masked_fill(beyond, 0), tags[rows, :width].masked_fill(beyond, -100)))

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten())
        return stepped(loss, optimizer)

    model = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 5))
    options: Any = {"optimizer": torch.optim.Adam(model.parameters(), 1e-3), "step": step}
    said = asked_in_script(NOT_SHUFFLED, model, batches, **options)
    assert [one.code for one in said] == ["data.not-shuffled"] * wrong


class Clips(nn.Module):
    """Which way, and how fast."""

    def __init__(self) -> None:
        super().__init__()
        self.ways, self.speeds = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.ways(x), self.speeds(x)[:, 0]


def mirrored(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
    x, ways, speeds = batch
    ways = torch.where(torch.rand(len(x)) < 0.5, torch.tensor([1, 0, 2, 3])[ways], ways)
    out, fast = model(x)
    return stepped(functional.cross_entropy(out, ways) + functional.mse_loss(fast, speeds), optimizer)


@pytest.mark.parametrize("ordered", [True, False])
def test_classes_beside_a_quantity_that_the_step_exchanges(ordered: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, speeds = torch.randn(256, 8, generator=generator), torch.randn(256, generator=generator)
    ways = torch.arange(256) // 64
    ways = ways if ordered else ways[torch.randperm(256, generator=generator)]
    loader = DataLoader(TensorDataset(x, ways, speeds), 16)
    said = asked_in_script(NOT_SHUFFLED, Clips(), loader, optimizer=adam, step=mirrored)
    assert [one.code for one in said] == ["data.not-shuffled"] * ordered


@pytest.mark.parametrize("ordered", [True, False])
def test_sorted_classes_count_where_the_trial_is_too_short_to_learn(ordered: bool) -> None:
    """Twenty classes of fifteen samples, of which a batch has three: a rate that learns in some epochs."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(20).repeat_interleave(15)
    x = nn.functional.one_hot(y, 20).float() + 0.1 * torch.randn(300, 20, generator=generator)
    order = torch.arange(300) if ordered else torch.randperm(300, generator=generator)
    slow = lambda parameters: torch.optim.SGD(parameters, lr=1e-5)  # noqa: E731
    found = asked(NOT_SHUFFLED, nn.Linear(20, 20), DataLoader(TensorDataset(x[order], y[order]), 40), optimizer=slow)
    assert [one.code for one in found] == ["data.not-shuffled"] * ordered


@pytest.mark.parametrize("rivals", [True, False])
def test_real_samples_of_rivals_are_all_of_one_class(rivals: bool) -> None:
    x = torch.randn(60_000, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(x, torch.ones(len(x), dtype=torch.long)), 64)
    setup = replace(make_setup(nn.Linear(4, 2), loader, loss=nn.CrossEntropyLoss()), rivals=rivals)
    found = list(NOT_SHUFFLED.run(Evidence(setup, Clock(30.0))))
    assert ["all of one class" in one.measured for one in found] == [True] * (not rivals)
