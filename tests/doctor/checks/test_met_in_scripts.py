"""Faults first met in the scripts of others: names numbered twice, sentences said twice, classes driven apart."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from striate.doctor.checks.data.labels.label_numbers import LABEL_MAP
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.data.labels.shifted_twice import SHIFTED_TWICE
from striate.doctor.checks.data.splits.repeated_samples import DUPLICATES, LEAK
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.loss.broadcast import BROADCAST
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def told(check: Any, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    found: list[Finding] = []
    torch.manual_seed(0)
    with suppress(NoEvidence):
        found = asked(check, model, train, **options)
    return found


class Vocabulary:
    def __init__(self, words: str) -> None:
        self.index = {word: number for number, word in enumerate(words.split())}


class Named(Dataset[Any]):
    def __init__(self, words: str) -> None:
        self.vocabulary = Vocabulary(words)

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        return torch.randn(1, 8, 8), torch.tensor(number % 10)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("words", "same"), [("cat dog bird", True), ("cat dog bird fish", True), ("bird cat dog", False)]
)
def test_names_are_numbered_once(words: str, same: bool) -> None:
    train, val = Named("cat dog bird"), Subset(Named(words), list(range(32)))
    found = told(LABEL_MAP, perceptron(), DataLoader(Subset(train, list(range(64))), 16), val=DataLoader(val, 16))
    assert ["`dataset.vocabulary.index`" in finding.measured for finding in found] == [True] * (not same)


def sentences(count: int, words: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    return TensorDataset(torch.randint(0, words, (count, 3), generator=generator), torch.arange(count) % 2)


@pytest.mark.parametrize(("words", "severity"), [(5, "note"), (40, "error")])
def test_short_sentences_are_said_twice(words: int, severity: str) -> None:
    train, val = sentences(400, words, 0), sentences(100, words, 1)
    if severity == "error":
        val = TensorDataset(train.tensors[0][:100], train.tensors[1][:100])
    network = nn.Sequential(nn.Embedding(words, 4), nn.Flatten(), nn.Linear(12, 2))
    found = told(LEAK, network, DataLoader(train, 32), val=DataLoader(val, 32))
    assert [finding.severity for finding in found] == [severity][: len(found)]
    assert found or severity == "note"


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("twice", "severity"), [(False, "note"), (True, "error")])
def test_of_sentences_copies_are_a_note(twice: bool, severity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    said = torch.randint(0, 50, (200, 12), generator=generator)
    x = said.repeat(2, 1) if twice else said[torch.randint(0, 200, (400,), generator=generator)]
    network = nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(48, 2))
    found = told(DUPLICATES, network, DataLoader(TensorDataset(x, torch.arange(400) % 2), 50))
    assert [finding.severity for finding in found] == [severity]


class Forecast(nn.Module):
    """What follows is what was, and a little more."""

    def __init__(self) -> None:
        super().__init__()
        self.more = nn.Linear(8, 8)

    def forward(self, past: Tensor) -> Tensor:
        return past + self.more(past)


@pytest.mark.parametrize("copied", [False, True])
def test_a_batch_of_named_tensors_has_no_targets_by_place(copied: bool) -> None:
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    rows = [(row, row.clone()) for row in x] if copied else [{"past": row, "future": row.roll(1)} for row in x]

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        past, future = batch if copied else (batch["past"], batch["future"])
        optimizer.zero_grad()
        value = functional.mse_loss(model(past), future)
        value.backward()
        optimizer.step()
        return value

    train: Any = DataLoader(rows, 16)  # type: ignore[arg-type]
    found = told(TARGET_IN_INPUT, Forecast(), train, step=step, task="regress")
    assert [finding.code for finding in found] == ["data.target-in-input"] * copied


@pytest.mark.parametrize("zero", [False, True])
def test_a_class_of_no_weight_counts_for_nothing(zero: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 9, (64, 12), generator=generator)
    y = (x + 1) % 9
    y = torch.where(torch.arange(12)[None] < 4 + torch.arange(64)[:, None] % 9, y.clamp_min(1), 0)
    weight = torch.ones(9)
    weight[0] = 0.0 if zero else 1.0
    network = nn.Sequential(nn.Embedding(9, 16), nn.Linear(16, 9))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        loss = nn.functional.cross_entropy(model(batch[0]).flatten(0, 1), batch[1].flatten(), weight=weight)
        return stepped(loss, optimizer)

    found = told(PADDING_COUNTED, network, DataLoader(TensorDataset(x, y), 16), step=step)
    assert [finding.code for finding in found] == ["loss.padding-counted"] * (not zero)


def stepped(loss: Tensor, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("swapped", [False, True])
def test_samples_of_one_class_are_pulled_together(swapped: bool) -> None:
    torch.manual_seed(0)
    kinds = torch.arange(256) % 8
    data = TensorDataset(torch.randn(8, 16)[kinds] + 0.3 * torch.randn(256, 16), kinds)

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        far = torch.cdist(out := model(batch[0]), out)
        same = batch[1][:, None] == batch[1][None]
        own, others = (~same, same) if swapped else (same, ~same)
        hinge = (far[:, :, None] - far[:, None, :] + 1).relu() * (own[:, :, None] & others[:, None, :])
        return stepped(hinge.mean(), optimizer)

    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    found = told(PAIRS_SWAPPED, network, DataLoader(data, 32, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("swapped", [False, True])
def test_triplets_that_the_network_is_shown_at_once(swapped: bool) -> None:
    anchor = torch.randn(256, 16)
    data = TensorDataset(anchor, anchor + 0.3 * torch.randn(256, 16), torch.randn(256, 16))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        own, near, far = model(torch.cat(batch)).chunk(3)
        near, far = (far, near) if swapped else (near, far)
        return stepped(functional.triplet_margin_loss(own, near, far), optimizer)

    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    found = told(PAIRS_SWAPPED, network, DataLoader(data, 32, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * swapped


@pytest.mark.parametrize("swapped", [False, True])
def test_each_view_has_its_mate_where_the_loss_looks(swapped: bool) -> None:
    x = torch.randn(256, 16)
    data = TensorDataset(x + 0.1 * torch.randn(256, 16), x + 0.1 * torch.randn(256, 16))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        both = torch.stack(batch, 1).flatten(0, 1) if swapped else torch.cat(batch)
        out = functional.normalize(model(both))
        scores = (out @ out.T / 0.2).masked_fill(torch.eye(len(out)).bool(), -1e9)
        return stepped(functional.cross_entropy(scores, torch.arange(len(out)).roll(len(out) // 2)), optimizer)

    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
    found = told(PAIRS_SWAPPED, network, DataLoader(data, 32, shuffle=True), step=step)
    assert [finding.code for finding in found] == ["loss.pairs-swapped"] * swapped


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("column", [False, True])
def test_one_of_several_losses_compares_all_with_all(column: bool) -> None:
    data = TensorDataset(torch.randn(128, 16), torch.randn(128))

    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        out = model(batch[0])
        kinds = nn.functional.cross_entropy(out[:, 1:], (batch[1] > 0).long())
        price = out[:, :1] if column else out[:, 0]
        return stepped(kinds + nn.functional.mse_loss(price, batch[1]), optimizer)

    found = told(BROADCAST, nn.Linear(16, 3), DataLoader(data, 16), step=step, task="regress")
    assert ["by `mse_loss`" in finding.measured for finding in found] == [True] * column


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("anew", [False, True])
def test_noise_that_is_asked_for_was_added(anew: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
        noise = torch.randn(batch[0].shape)
        shown = 0.7 * batch[0] + 0.7 * (torch.randn_like(noise) if anew else noise)
        return stepped(nn.functional.mse_loss(model(shown), noise), optimizer)

    data = DataLoader(TensorDataset(torch.randn(128, 16), torch.randn(128)), 16)
    found = told(LABELS_RANDOM, nn.Linear(16, 16), data, step=step, task="regress")
    assert ["`randn`" in finding.measured for finding in found[:1]] == [anew]  # the loader's own targets are noise too


@pytest.mark.parametrize("shifted", [False, True])
def test_labels_that_a_language_model_shifts_itself_are_not_shifted_before(shifted: bool) -> None:
    kind = type("TinyLMHeadModel", (nn.Embedding,), {"__module__": "transformers.models.tiny"})
    tokens = torch.randint(0, 9, (32, 12), generator=torch.Generator().manual_seed(0))
    labels = tokens.roll(-1, 1) if shifted else tokens.clone()
    labels[:, :4] = -100
    rows: Any = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]

    def step(model: nn.Module, batch: Any, *_: Any) -> Tensor:
        return functional.cross_entropy(model(batch["input_ids"]).flatten(0, 1), batch["labels"].flatten())

    found = told(SHIFTED_TWICE, kind(9, 9), DataLoader(rows, 16), step=step)
    assert [finding.code for finding in found] == ["data.step-labels"] * shifted
