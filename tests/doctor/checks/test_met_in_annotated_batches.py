"""Batches of a script's own class, counts that a column tells, numbers of a data set: faults that were met, and
healthy twins."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from asked import asked
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from striate.doctor.checks.loss.ignored import IGNORED_CLASS
from striate.doctor.checks.loss.padding_counted import PADDING_COUNTED
from striate.doctor.setup.batch import copied


class Batch:
    def __init__(self, rows: list[Tensor]) -> None:
        tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        self.given, self.wanted, self.count = tokens[:, :-1], tokens[:, 1:], len(rows)


def sentences() -> DataLoader[Any]:
    torch.manual_seed(0)
    rows = [torch.randint(1, 12, (4 + number % 5,)) for number in range(96)]
    return DataLoader(rows, 32, collate_fn=Batch)  # type: ignore[arg-type]


@pytest.mark.parametrize("ignored", [0, -100])
def test_padding_is_known_in_batches_of_the_scripts_own_class(ignored: int) -> None:
    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        scores = model(batch.given).flatten(0, 1)
        loss = functional.cross_entropy(scores, batch.wanted.flatten(), ignore_index=ignored)
        return stepped(loss, optimizer)

    said = []
    for check in (IGNORED_CLASS, PADDING_COUNTED):
        model = nn.Sequential(nn.Embedding(12, 8), nn.Linear(8, 12))
        said += asked(check, model, sentences(), step=step, optimizer=torch.optim.Adam(model.parameters()))
    assert [one.code for one in said] == ["loss.padding-counted"] * (ignored < 0)


def test_a_batch_of_the_scripts_own_class_is_copied_with_its_tensors() -> None:
    batch = next(iter(sentences()))
    copy = copied(batch)
    copy.given.zero_()
    assert copy.count == batch.count == 32
    assert int(batch.given[0, 0]) > 0


def stepped(loss: Tensor, optimizer: Any) -> Tensor:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()
