"""Rankings of what users chose above what was drawn, translations beside other sentences, terms with a weight that
stands in the step; and their twins."""

from __future__ import annotations

import ast
import textwrap
from contextlib import suppress
from typing import Any

import pytest
import torch
from asked import asked, digits, perceptron
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.check import Check
from striate.doctor.checks.data.labels.labels_random import LABELS_RANDOM
from striate.doctor.checks.loss.pairs.pairs_swapped import CHECK as PAIRS_SWAPPED
from striate.doctor.checks.loss.task.term_scales import TERM_SCALES
from striate.doctor.evidence.clock import NoEvidence
from striate.doctor.setup.script_source import ScriptSource
from striate.records import Finding


def said(check: Check, model: nn.Module, train: Any, **options: Any) -> list[Finding]:
    with suppress(NoEvidence):
        return asked(check, model, train, **options)
    return []


def adam(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=0.003)


class Factors(nn.Module):
    """Scores of users with items; of two items each, where it is given two, or how far apart they are."""

    def __init__(self, distances: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.users, self.items, self.distances = nn.Embedding(100, 8), nn.Embedding(60, 8), distances

    def forward(self, users: Tensor, *items: Tensor) -> Any:
        if self.distances:
            scores = [(self.users(users) - self.items(some)).norm(dim=1) for some in items]
        else:
            scores = [(self.users(users) * self.items(some)).sum(1) for some in items]
        return scores[0] if len(items) == 1 else tuple(scores)


def chosen() -> DataLoader[Any]:
    """Of each of 100 users eight items that it chose, of one kind of four, each beside one drawn from all."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.randint(4, (100,), generator=generator)
    ranks = torch.rand(100, 15, generator=generator).argsort(1)[:, :8]
    positive = (kinds[:, None] * 15 + ranks).flatten()
    negative = torch.randint(60, positive.shape, generator=generator)
    users = torch.arange(100).repeat_interleave(8)
    return DataLoader(TensorDataset(users, positive, negative), 32, shuffle=True, generator=generator)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("turned", "together", "distances"),
    [(True, False, False), (False, False, False), (True, True, False), (False, True, False), (True, False, True)],
)
def test_what_was_chosen_is_ranked_above_what_was_drawn(turned: bool, together: bool, distances: bool) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        users, *items = batch
        better, worse = model(users, *items) if together else (model(users, some) for some in items)
        value = -functional.logsigmoid(worse - better if turned else better - worse).mean()
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(PAIRS_SWAPPED, Factors(distances), chosen(), step=step, optimizer=adam)
    assert ["as of items drawn at random" in one.measured for one in found] == [True] * (turned and not distances)


class Translator(nn.Module):
    """Scores of the next tokens, by the one before and the mean of the source."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.source, self.before, self.scores = nn.Embedding(40, 16), nn.Embedding(40, 16), nn.Linear(16, 40)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.scores(self.source(source).mean(1, keepdim=True) + self.before(target))


def translations(apart: str) -> DataLoader[Any]:
    """Sentences of three to eight words, 4 to 39, and of each word another, in another order, behind a 1 and before a
    2; 0 fills them up. Targets may be in another order, or both sorted by their lengths."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(3, 9, (800,), generator=generator).tolist()
    words = [4 + torch.randint(36, (length,), generator=generator) for length in lengths]
    other = 4 + torch.randperm(36, generator=generator)
    said = [other[each - 4].flip(0) for each in words]
    said = [each[2:] if int(each[0]) % 2 else each for each in said]  # some words are none in the other language
    if apart == "shuffled":
        said = [said[k] for k in torch.randperm(800, generator=generator)]
    elif apart == "sorted":
        words, said = sorted(words, key=len), sorted(said, key=len)
    bounds = torch.tensor([1]), torch.tensor([2])
    targets = [torch.cat([bounds[0], each, bounds[1]]) for each in said]

    def filled(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        return tuple(nn.utils.rnn.pad_sequence(list(side), batch_first=True) for side in zip(*pairs, strict=True))

    return DataLoader(list(zip(words, targets, strict=True)), 40, collate_fn=filled)  # type: ignore[arg-type]


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("apart", ["", "shuffled", "sorted"])
def test_translations_lie_beside_their_sources(apart: str) -> None:
    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        scores = model(batch[0], batch[1][:, :-1])
        value = functional.cross_entropy(scores.transpose(1, 2), batch[1][:, 1:], ignore_index=0)
        value.backward()
        optimizer.step()
        return value.detach()

    found = said(LABELS_RANDOM, Translator(), translations(apart), step=step, optimizer=adam)
    assert ["dealt out at random" in one.measured for one in found] == [True] * bool(apart)


@pytest.mark.parametrize(("weight", "right"), [("1.0", False), ("0.004", True), ("weights[epoch]", True)])
def test_the_weight_of_a_divergence_may_stand_in_the_step(weight: str, right: bool) -> None:
    tree = ast.parse(
        textwrap.dedent(f"""
        def training_step(self, x, epoch):
            rec = F.mse_loss(self(x), x)
            kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / len(x)
            beta = {weight}
            return rec + beta * kld
        for x, y in loader:
            step(x)
        """)
    )
    source = ScriptSource({"t.py": tree}, {}, ("t.py", 7, 8), 5)
    assert len(said(TERM_SCALES, perceptron(), digits(), source=source)) == (not right)
