"""Augmentation of sequences that drops elements of the input, but not of the target."""

from __future__ import annotations

import random
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from for_checks.asked import said
from striate.doctor.checks.data.moved.dropped_elements import FEWEST_KEPT, count_dropped
from striate.doctor.checks.data.moved.targets_left_behind import LEFT_BEHIND
from striate.doctor.evidence.clock import NoEvidence


class Tagged(Dataset[Any]):
    """Words with tags, some words left out. `how`: with their tags, without, or as the next words of a language
    model."""

    def __init__(self, how: str, pairs: bool) -> None:
        self.how, self.pairs = how, pairs

    def __len__(self) -> int:
        return 64

    def __getitem__(self, number: int) -> Any:
        own = random.Random(number)
        words = [own.randrange(4, 100) for _ in range(own.randrange(8, 14))]
        tags = [word % 3 for word in words]
        kept = [place for place in range(len(words)) if random.random() > 0.1]
        if self.how == "none":
            kept = list(range(len(words)))
        words = [words[place] for place in kept]
        tags = tags[: len(kept)] if self.how == "kept" else [tags[place] for place in kept]
        tags = [*words[1:], 0] if self.how == "next" else tags
        words, tags = [2, *words, 3], [-100, *tags, -100]
        return (words, tags) if self.pairs else {"input_ids": words, "labels": tags}


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize(("how", "found"), [("kept", True), ("moved", False), ("next", False), ("none", False)])
def test_tags_are_left_out_with_their_words(how: str, found: bool, pairs: bool) -> None:
    random.seed(0)
    kept, lost = count_dropped(DataLoader(Tagged(how, pairs), 8, collate_fn=list), perf_counter() + 60)
    assert (kept >= FEWEST_KEPT and lost <= kept / 10) is found
    assert lost > FEWEST_KEPT or how != "moved"


@pytest.mark.parametrize("how", ["kept", "moved"])
def test_tags_that_stay_are_found(how: str) -> None:
    train = DataLoader(Tagged(how, True), 8, collate_fn=_padded)
    found = said(LEFT_BEHIND, Tagger(), train, loss=nn.CrossEntropyLoss(ignore_index=-100))
    assert ["left out" in one.measured for one in found] == [True] * (how == "kept")


class Tagger(nn.Module):
    """A score for each of three tags, by the word alone."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Embedding(100, 3)

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        return self.scores(words).transpose(1, 2)


def _padded(samples: list[Any]) -> list[torch.Tensor]:
    longest = max(len(words) for words, _ in samples)
    return [
        torch.tensor([row + [fill] * (longest - len(row)) for row in rows])
        for rows, fill in zip(zip(*samples, strict=True), (0, -100), strict=True)
    ]


def test_other_samples_are_not_looked_at() -> None:
    with pytest.raises(NoEvidence):
        count_dropped(DataLoader([([1.0, 2.0, 3.0], 1)] * 8), perf_counter() + 60)
