"""Pairs of users and items that validation shares, attention along the samples, padded tags, boxes, first states."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.shift.shift import SHIFT
from striate.doctor.checks.data.splits.repeated_samples import LEAK
from striate.doctor.checks.data.targets.target_in_input import TARGET_IN_INPUT
from striate.doctor.checks.loss.counted.padding_counted import PADDING_COUNTED
from striate.doctor.checks.model.batch_dependence import BATCH_MIXING
from striate.doctor.checks.model.receptive_field import RECEPTIVE_FIELD
from striate.doctor.evidence.clock import NoEvidence
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


class Factors(nn.Module):
    """The product of a user's and an item's numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, 4), nn.Embedding(50, 4)

    def forward(self, users: Tensor, items: Tensor) -> Tensor:
        return (self.users(users) * self.items(items)).sum(1)


def ratings_step(model: nn.Module, batch: list[Tensor], optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
    optimizer.zero_grad()
    value: Tensor = loss(model(batch[0], batch[1]), batch[2])
    value.backward()
    optimizer.step()
    return value.detach()


@pytest.mark.parametrize(("kind", "wrong"), [("apart", False), ("all", True), ("drawn", False)])
def test_pairs_of_validation_are_found_in_training(kind: str, wrong: bool) -> None:
    torch.manual_seed(0)
    pairs = torch.randperm(3000)[:1500]
    ratings = torch.randint(1, 6, (1500,)).float()
    if kind == "drawn":  # among pairs that come again anyway
        pairs, ratings = torch.randint(0, 3000, (1500,)) // 4 * 4, torch.full((1500,), 3.0)
        ratings[::5] = 1.0
    columns = pairs // 50, pairs % 50, ratings
    first = 0 if kind == "all" else 300
    train, val = (TensorDataset(*(c[rows] for c in columns)) for rows in (slice(first, None), slice(300)))
    options: dict[str, Any] = {"val": DataLoader(val, 100), "loss": nn.MSELoss(), "step": ratings_step}
    found = asked(LEAK, Factors(), DataLoader(train, 50, shuffle=True), **options)
    assert [f.code for f in found] == ["data.leak"] * wrong


class Masked(nn.Module):
    """Says the next of 12 words by attention under a mask of fixed size, or by a graph of the samples."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(20, 16), nn.Linear(16, 20)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=kind == "along positions")
        self.neighbors = torch.eye(12).roll(1, 0) if kind == "graph" else None
        self.hidden = torch.ones(12, 12, dtype=torch.bool).triu(1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.words(tokens)
        if self.neighbors is not None:
            x = torch.einsum("ij,j...->i...", self.neighbors, x)
        else:
            x = x + self.attention(x, x, x, attn_mask=self.hidden, need_weights=False)[0]
        return self.last(x).transpose(1, 2)


@pytest.mark.parametrize("kind", ["along positions", "along samples", "graph"])
def test_attention_whose_mask_is_laid_over_the_samples_mixes_them(kind: str) -> None:
    torch.manual_seed(0)
    text = torch.randint(20, (120, 13))
    loader = DataLoader(TensorDataset(text[:, :-1], text[:, 1:]), 12)
    found = said(BATCH_MIXING, Masked(kind), loader, loss=nn.CrossEntropyLoss())
    assert [f.where for f in found] == ["attention"] * (kind == "along samples")


class Words(nn.Module):
    """Scores of 20 tags for each word."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.last = nn.Embedding(20, 16), nn.Linear(16, 20)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.last(self.words(tokens)).transpose(1, 2)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("copied", [False, True])
def test_what_fills_inputs_and_targets_up_is_no_target_in_the_input(copied: bool) -> None:
    torch.manual_seed(0)
    words, tags = torch.randint(1, 20, (96, 16)), torch.randint(0, 20, (96, 16))
    filled = torch.arange(16) >= torch.randint(1, 9, (96, 1))
    tags = words if copied else tags
    loader = DataLoader(TensorDataset(words.masked_fill(filled, 0), tags.masked_fill(filled, 0)), 32)
    found = said(TARGET_IN_INPUT, Words(), loader, loss=nn.CrossEntropyLoss())
    assert [f.code for f in found] == ["data.target-in-input"] * copied
    (padding,) = asked(PADDING_COUNTED, Words(), loader, loss=nn.CrossEntropyLoss())
    assert padding.code == "loss.padding-counted"


class Sides(Dataset[tuple[Tensor, Tensor]]):
    """Noise with a bright square in a corner, which is the label; mirrored without it: mostly, in each draw anew, or
    always."""

    def __init__(self, kind: str, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.kind, self.labels = kind, torch.randint(4, (200,), generator=generator)
        self.images = 0.3 * torch.randn(200, 1, 8, 8, generator=generator)
        for image, label in zip(self.images, self.labels.tolist(), strict=True):
            image[:, 4 * (label // 2) :, 4 * (label % 2) :][:, :4, :4] += 3

    def __len__(self) -> int:
        return 200

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        turned = self.kind == "always" or (self.kind == "mostly" and torch.rand(()) < 0.8)
        image = self.images[number]
        return image.flip(-1) if turned else image, self.labels[number]


@pytest.mark.parametrize(("kind", "wrong"), [("mostly", False), ("always", True)])
def test_what_augmentation_mirrors_is_no_other_preparation(kind: str, wrong: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
    loader, val = DataLoader(Sides(kind, 0), 25, shuffle=True), DataLoader(Sides("never", 1), 50)
    found = said(SHIFT, model, loader, val=val, optimizer=lambda p: torch.optim.Adam(p, lr=0.01))
    assert ["left and right exchanged" in f.measured for f in found] == [True] * wrong


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
def test_a_state_that_has_seen_one_step_is_told(place: int, cell: bool, turned: bool, wrong: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(160, 10, 2)
    loader = DataLoader(TensorDataset(x, x.mean((1, 2))), 16)
    found = said(RECEPTIVE_FIELD, Recurrent(place, cell, turned), loader, loss=nn.MSELoss())
    assert [f"the {wrong} one alone" in f.measured for f in found] == [True] * bool(wrong)
