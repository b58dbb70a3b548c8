"""`data.too-few`: too few different samples to learn from."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, WeightedRandomSampler

from for_checks.asked import asked, asked_in_script, digits, loop, parts, perceptron, pixels, read
from for_checks.networks import convolutions
from striate.doctor.causes import sort_out
from striate.doctor.checks.data.labels.imbalance import IMBALANCE
from striate.doctor.checks.data.labels.missing_class import MISSING_CLASS
from striate.doctor.checks.data.labels.too_few import TOO_FEW
from striate.doctor.checks.data.not_shuffled import NOT_SHUFFLED
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.optim.lr_too_low import LR_TOO_LOW
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.batch import batches_of
from striate.doctor.setup.recorded_iterators import RecordedIterator
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding


@pytest.mark.parametrize("beside", [False, True])
def test_few_labels_beside_many_samples_without(beside: bool) -> None:
    x, y = pixels(40)

    def step(*given: Any) -> torch.Tensor:
        return loop(*given)

    cast(Any, step).iterators = [RecordedIterator(iter(()), [(x, x)])] if beside else []
    found = asked(TOO_FEW, perceptron(), DataLoader(TensorDataset(x, y), 16, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["data.too-few"] * (not beside)


def test_numbers_of_samples_beside_targets_are_no_classes() -> None:
    """Where the loss is given a part of the targets, nothing says which tensor they are."""

    def step(net: nn.Module, batch: Any, optimizer: Any, _: object) -> Tensor:
        x, y, _ = batch
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x)[y > 2], y[y > 2])
        loss.backward()
        optimizer.step()
        return loss.detach()

    x, y = digits().dataset.tensors  # type: ignore[attr-defined]
    loader = DataLoader(TensorDataset(x, y, torch.arange(len(x))), 32, shuffle=True)
    assert not asked(TOO_FEW, perceptron(), loader, step=step)


def test_three_images_a_class_are_too_few() -> None:
    x, y = pixels(640)
    rows = torch.cat([(y == k).nonzero()[:3].flatten() for k in range(10)])
    (finding,) = asked(TOO_FEW, perceptron(), (x[rows], y[rows]))
    assert "10 classes have fewer than 5 different samples: 0 (3)" in finding.measured


def test_copies_do_not_make_more_samples() -> None:
    x, y = pixels(640)
    rows = torch.cat([(y == k).nonzero()[:3].flatten() for k in range(10)]).repeat(10)
    assert asked(TOO_FEW, perceptron(), (x[rows], y[rows]))


def test_a_table_of_few_values_has_copies_by_chance() -> None:
    x = torch.randint(0, 2, (200, 2), generator=torch.Generator().manual_seed(0)).float()
    assert not asked(TOO_FEW, nn.Linear(2, 2), (x, (x[:, 0] != x[:, 1]).long()))


def test_a_hundred_rows_are_enough() -> None:
    x = torch.randn(110, 4, generator=torch.Generator().manual_seed(0))
    assert not asked(TOO_FEW, nn.Linear(4, 3), (x, torch.arange(110) % 3))


class Owners:
    """Batches of two classes, drawn anew."""

    def __init__(self, y: Tensor) -> None:
        self.rows = [(y == k).nonzero().flatten().tolist() for k in range(10)]

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[list[int]]:
        for number in range(6):
            yield [*self.rows[number][:8], *self.rows[9][:3]]


def test_batches_that_a_sampler_of_ones_own_deals_are_not_counted() -> None:
    x, y = pixels()
    loader = DataLoader(TensorDataset(x, y), batch_sampler=Owners(y))  # type: ignore[arg-type]
    assert not asked(TOO_FEW, perceptron(), loader)
    with pytest.raises(NoEvidence, match="a custom sampler"):
        list(asked(IMBALANCE, perceptron(), loader))


@pytest.mark.slow
@pytest.mark.each_nth(2)
@pytest.mark.parametrize("clients", [1, 5])
def test_a_client_of_several_has_few_samples_of_a_class(clients: int) -> None:
    (x, y), val = parts()
    own = torch.cat([torch.nonzero(y == 0)[:40].flatten(), *(torch.nonzero(y == k)[:3].flatten() for k in range(1, 6))])
    shares = [own, *torch.arange(len(x)).chunk(clients)][:clients]
    loaders = [DataLoader(TensorDataset(x[share], y[share]), 16, shuffle=True) for share in shares]
    code = ast.parse("for x, y in loader:\n    pass\n")
    source = ScriptSource({"train.py": code}, {"loaders": loaders}, ("train.py", 1, 2), None)
    found = []
    for check in (TOO_FEW, IMBALANCE):
        with suppress(NoEvidence):
            found += asked(check, convolutions(), loaders[0], val=val, source=source)
    assert [one.code for one in found] == ["data.too-few", "data.imbalance"] * (clients == 1)


class Dealer:
    """Batches of two of each class, of the first two in its list or of all."""

    def __init__(self, y: Tensor, first: bool) -> None:
        self.pools, self.first = [(y == k).nonzero().flatten() for k in range(10)], first

    def __len__(self) -> int:
        return 20

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(20):
            order = [torch.randperm(2 if self.first else len(pool))[:2] for pool in self.pools]
            yield torch.cat([pool[some] for pool, some in zip(self.pools, order, strict=True)]).tolist()


@pytest.mark.parametrize("first", [False, True])
def test_a_sampler_draws_from_all_samples(first: bool) -> None:
    torch.manual_seed(0)
    y = torch.arange(400) % 10
    data = TensorDataset(torch.randn(400, 1, 8, 8), y)
    found = asked(TOO_FEW, perceptron(), DataLoader(data, batch_sampler=Dealer(y, first)))  # type: ignore[arg-type]
    assert [(one.severity, one.code) for one in found] == [("error", "data.too-few")] * first


@pytest.mark.parametrize("of_classes", [True, False])
def test_a_sampler_with_a_weight_for_each_class_draws_the_first_samples(of_classes: bool) -> None:
    tokens = torch.randint(0, 12, (320, 6), generator=torch.Generator().manual_seed(0))
    y = torch.arange(320) % 2
    weights = torch.ones(2 if of_classes else 320)
    sampler = WeightedRandomSampler(weights.tolist(), 320, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(12, 8), nn.Flatten(), nn.Linear(48, 2))
    data: Any = TensorDataset(tokens, y)
    options: Any = {"val": DataLoader(data, 64), "optimizer": torch.optim.Adam(model.parameters(), 0.01)}
    said = [
        one
        for check in (TOO_FEW, SHIFT)
        for one in asked(check, model, DataLoader(data, 32, sampler=sampler), **options)
    ]
    assert [(one.code, one.severity) for one in said] == [("data.too-few", "error")] * of_classes


@pytest.mark.parametrize("weights", [2, 320])
def test_classes_are_missing_where_few_samples_are_drawn(weights: int) -> None:
    """The few weights are the cause; where each sample has one, it is the class that has none."""
    y = torch.arange(320) // 130
    x = torch.randn(320, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    given = torch.ones(2) if weights == 2 else (y < 2).double()
    sampler = WeightedRandomSampler(given.tolist(), 320, generator=torch.Generator().manual_seed(0))
    data: Any = TensorDataset(x, y)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    loader, val = DataLoader(data, 32, sampler=sampler), DataLoader(data, 64)
    said = [one.code for check in (MISSING_CLASS, TOO_FEW) for one in asked(check, model, loader, val=val)]
    assert said == ["data.too-few" if weights == 2 else "data.missing-class"]


class Shifting(Dataset[Any]):
    """Images that are another each time, as augmentation makes them."""

    def __init__(self, y: torch.Tensor) -> None:
        self.y = y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, number: int) -> Any:
        return torch.randn(1, 8, 8) + number, self.y[number]


@pytest.mark.parametrize(("weights", "said"), [(10, ["data.too-few"]), (100, ["data.missing-class"]), (320, [])])
def test_augmentation_does_not_hide_that_few_samples_are_drawn(weights: int, said: list[str]) -> None:
    y = torch.arange(320) // (33 if weights == 100 else 32)
    sampler = WeightedRandomSampler([1.0] * weights, 320, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    loader, val = DataLoader(Shifting(y), 32, sampler=sampler), DataLoader(Shifting(y), 64)
    found = [one for check in (MISSING_CLASS, TOO_FEW) for one in asked(check, model, loader, val=val)]
    assert [one.code for one in found] == said
    if weights == 10:  # all of one class
        with pytest.raises(NoEvidence, match="a sampler draws a few samples alone"):
            asked(NOT_SHUFFLED, model, loader, val=val)
        assert "10 different training samples in 320 draws" in found[0].measured


def test_a_rate_is_not_judged_by_few_samples_that_a_sampler_draws() -> None:
    sampler = WeightedRandomSampler([1.0, 1.0], 320)
    loader = DataLoader(Shifting(torch.arange(320) % 10), 32, sampler=sampler)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(NoEvidence, match="weights for only a few samples"):
        asked(LR_TOO_LOW, model, loader, optimizer=torch.optim.SGD(model.parameters(), 1e-6))


def test_few_samples_by_a_sampler_come_before_what_they_bring_about() -> None:
    told = [
        Finding(code, "error", "here", "this", "that", "why", "how") for code in ("optim.lr-too-low", "data.too-few")
    ]
    assert [one.code for one in sort_out(told)[0]] == ["data.too-few", "optim.lr-too-low"]


@pytest.mark.parametrize("end", ["break", "if epoch > 8:\n        break", "pass"])
def test_a_break_left_in_the_loop_ends_each_epoch_at_once(end: str) -> None:
    text = f"for x, y in loader:\n    step(x, y)\n    {end}\n"
    found = read(text, TOO_FEW, perceptron(), digits(), loss=nn.CrossEntropyLoss())
    assert [(one.code, one.severity) for one in found] == [("data.too-few", "error")] * (end == "break")


class Digits(Dataset[Any]):
    """Digits, of which the length counts a part, `size` at a time."""

    def __init__(self, size: int) -> None:
        self.size, (self.x, self.y) = size, pixels(640)

    def __len__(self) -> int:
        return len(self.x) // self.size

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]


@pytest.mark.parametrize("size", [16, 1])
def test_a_length_in_batches_leaves_most_samples_out(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Digits, "__module__", "script_of_a_user")
    found = asked_in_script(TOO_FEW, perceptron(), DataLoader(Digits(size), 8), loss=nn.CrossEntropyLoss())
    assert [(one.code, one.where) for one in found] == [("data.too-few", "`Digits.__len__`")] * (size > 1)


class Stream(IterableDataset[Any]):
    """Has no length."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter([(torch.zeros(3), torch.tensor(0)), (torch.ones(3), torch.tensor(1))] * 20)


def test_a_stream_has_no_length_to_be_left_out() -> None:
    loader = DataLoader(Stream(), 8)
    assert batches_of(loader) is None
    assert batches_of(DataLoader(TensorDataset(torch.zeros(9)), 4)) == 3
    with suppress(NoEvidence):  # as for all streams
        read("for x, y in loader:\n    step(x, y)\n", TOO_FEW, nn.Linear(3, 2), loader)
