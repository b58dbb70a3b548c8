"""Target tokens of validation that never occur in training."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked
from striate.doctor.checks.data.labels.missing_class import MISSING_CLASS
from striate.doctor.evidence.clock import NoEvidence

_UNKNOWN = 1


def _next_tokens(model: nn.Module, batch: Any, optimizer: Any, _: Any) -> Tensor:
    (tokens,) = batch
    loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize(("words", "missing"), [("of another kind", True), ("rare", False), ("the same", False)])
def test_words_that_only_validation_has(words: str, missing: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    most = 20_000 if words == "rare" else 40
    numbers = 3 + (most * torch.rand(400, 9, generator=generator) ** (3 if words == "rare" else 1)).long()
    train, val = numbers[:200], numbers[200:]
    if words == "of another kind":
        val[:, 4] = 90
    val = torch.where(torch.isin(val, train), val, _UNKNOWN)
    assert words == "the same" or float((val == _UNKNOWN).double().mean()) > 0.1
    ends = torch.tensor([2])
    parts = [torch.cat([2 * torch.ones_like(part[:, :1]), part, ends.expand(len(part), 1)], 1) for part in (train, val)]
    parts[1] = functional.pad(parts[1], (0, 3))  # as collated with longer ones
    loaders = [DataLoader(TensorDataset(part), 20) for part in parts]
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(most + 100, 8), nn.Linear(8, most + 100))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    found = []
    with suppress(NoEvidence):  # what is looked for in class numbers
        found = asked(MISSING_CLASS, model, loaders[0], val=loaders[1], optimizer=optimizer, step=_next_tokens)
    assert ["target tokens of validation sequences" in one.measured for one in found] == [True] * missing
