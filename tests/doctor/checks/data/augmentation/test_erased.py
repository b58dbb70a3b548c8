"""Augmentation that erases nearly all of a sample, compared with the stored one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from for_checks.asked import digits, perceptron, stepped
from striate.doctor.checks.data.augmentation.erased import erased_by_step, tokens_erased
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("kept", "anew", "wrong"), [(2, True, True), (6, True, False), (2, False, False)])
def test_a_step_masks_less_than_nearly_all(kept: int, anew: bool, wrong: bool) -> None:
    """What lies at the same places in each step is no augmentation."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        top, left = (torch.randint(0, 9 - kept, (2,)) if anew else torch.tensor([0, 6])).tolist()
        shown = torch.zeros_like(batch[0])
        shown[..., top : top + kept, left : left + kept] = batch[0][..., top : top + kept, left : left + kept]
        return stepped(functional.cross_entropy(model(shown), batch[1]), optimizer)

    model = perceptron()
    setup = make_setup(model, digits(most=256), optimizer=torch.optim.SGD(model.parameters(), 1e-3), step=step)
    said = erased_by_step(Evidence(setup, Clock(20.0)))
    assert (said is not None) == wrong


class Words(Dataset[Any]):
    """Sentences of ten words and their topic; a share of the words is replaced by 1."""

    def __init__(self, dropped: float, unknown: float = 0.0) -> None:
        words = torch.randint(2, 30, (200, 10), generator=torch.Generator().manual_seed(0))
        rare = torch.rand(words.shape, generator=torch.Generator().manual_seed(1)) < unknown
        self.words, self.topics, self.dropped = words.masked_fill(rare, 1), words[:, 0] % 2, dropped

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        words = self.words[number]
        return words.masked_fill(torch.rand(len(words)) < self.dropped, 1), self.topics[number]


@pytest.mark.parametrize(
    ("dropped", "of_validation", "unknown", "wrong"),
    [(0.92, 0.0, 0.0, True), (0.08, 0.0, 0.0, False), (0.4, 0.0, 0.0, False), (0.9, 0.9, 0.0, False),
     (0.08, 0.0, 0.8, False), (0.0, 0.0, 0.8, False)],
)  # fmt: skip
def test_word_dropout_leaves_most_words(dropped: float, of_validation: float, unknown: float, wrong: bool) -> None:
    """Where validation is masked as well, that is what the network is for; many words may be unknown anyway."""
    model = nn.Sequential(nn.Embedding(30, 4), nn.Flatten(), nn.Linear(40, 2))
    train, val = (DataLoader(Words(share, unknown), 40) for share in (dropped, of_validation))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    setup = make_setup(model, train, val, optimizer=optimizer, loss=nn.CrossEntropyLoss())
    assert (tokens_erased(Evidence(setup, Clock(20.0))) is not None) == wrong
