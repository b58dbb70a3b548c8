"""`data.duplicates`: does training get different samples?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

from for_checks.asked import adam, asked, digits, parts, perceptron, said
from for_checks.embeddings import noisy
from for_checks.steps import told
from striate.doctor.checks.data.splits.duplicates import DUPLICATES
from striate.doctor.evidence.clock import NoEvidence


def test_two_inputs_are_not_judged_by_the_second_where_no_name_says_which_is_the_target() -> None:
    """Pictures and their captions, of which there are few."""

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pictures, self.words = nn.Linear(64, 8), nn.Embedding(6, 8)

        def forward(self, image: Tensor, tokens: Tensor) -> Tensor:
            return self.pictures(image.flatten(1)) @ self.words(tokens).mean(1).T

    def step(model: nn.Module, batch: dict[str, Tensor], optimizer: torch.optim.Optimizer, _: object) -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(batch["image"], batch["tokens"]), torch.arange(len(batch["image"])))
        loss.backward()
        optimizer.step()
        return loss.detach()

    (x, y), _ = parts()
    rows = [
        {"image": image, "tokens": torch.tensor([0, 1 + k % 5]), "concept": label}
        for k, (image, label) in enumerate(zip(x, y, strict=True))
    ]
    with pytest.raises(NoEvidence, match="several inputs"):
        asked(DUPLICATES, Both(), DataLoader(rows, 32), step=step)  # type: ignore[arg-type]


def test_a_list_read_four_times() -> None:
    (x, y), _ = parts()
    (finding,) = asked(DUPLICATES, perceptron(), (x[:150].repeat(4, 1, 1, 1), y[:150].repeat(4)))
    assert finding.severity == "error"
    assert "450 of 600 samples are copies of others: 150 different ones, the most frequent 4 times" in finding.measured


def sampler_of(count: int) -> WeightedRandomSampler:
    return WeightedRandomSampler([1.0] * count, count)


def test_what_a_sampler_draws_again_is_no_copy() -> None:
    (x, y), _ = parts()
    weights = (1 / torch.bincount(y).double())[y]
    sampler = WeightedRandomSampler(weights.tolist(), len(y))
    assert not asked(DUPLICATES, perceptron(), DataLoader(TensorDataset(x, y), 32, sampler=sampler))
    twice = TensorDataset(x[:200].repeat(3, 1, 1, 1), y[:200].repeat(3))
    assert asked(DUPLICATES, perceptron(), DataLoader(twice, 32, sampler=sampler_of(len(twice))))


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("even", [True, False])
def test_rare_classes_that_are_repeated_on_purpose_are_a_note(even: bool) -> None:
    (x, y), _ = parts()
    rows = [(y == k).nonzero().flatten()[: 10 if k else 50] for k in range(4)]
    again = torch.cat([own.repeat(5)[:50] if even else own.repeat(2) for k, own in enumerate(rows)])
    (finding,) = asked(DUPLICATES, perceptron(), DataLoader(TensorDataset(x[again], y[again]), 25, shuffle=True))
    assert (finding.severity == "note") == even


LOSS = nn.CrossEntropyLoss()


def test_rare_rows_drawn_again_are_seen_in_a_part_of_the_data() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9000, 6, generator=generator)
    again = torch.randint(0, 900, (8100,), generator=generator)
    data = TensorDataset(torch.cat([x[900:], x[again]]), torch.arange(16200) // 8100)
    told = said(DUPLICATES, nn.Linear(6, 2), DataLoader(data, 32, shuffle=True, generator=generator), loss=LOSS)
    assert [finding.severity for finding in told] == ["note"]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(("twice", "severity"), [(False, "note"), (True, "error")])
def test_of_sentences_copies_are_a_note(twice: bool, severity: str) -> None:
    generator = torch.Generator().manual_seed(0)
    said = torch.randint(0, 50, (200, 12), generator=generator)
    x = said.repeat(2, 1) if twice else said[torch.randint(0, 200, (400,), generator=generator)]
    network = nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(48, 2))
    found = told(DUPLICATES, network, DataLoader(TensorDataset(x, torch.arange(400) % 2), 50))
    assert [finding.severity for finding in found] == [severity]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("varied", [True, False])
def test_copies_that_the_step_varies_only_make_an_epoch_longer(varied: bool) -> None:
    x, y = next(iter(digits(200)))
    data = DataLoader(TensorDataset(x.repeat(3, 1, 1, 1), y.repeat(3)), 50, shuffle=True)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model(noisy(batch[0]) if varied else batch[0]), batch[1])
        value.backward()
        optimizer.step()
        return value.detach()

    (found,) = asked(DUPLICATES, perceptron(), data, step=step, optimizer=adam)
    assert found.severity == ("note" if varied else "error")
