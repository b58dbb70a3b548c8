"""`model.attends-padding`: does attention see only the padding, because its mask is inverted, or does a recurrent
network predict from the state behind the padding?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked
from striate.doctor.checks.model.attends_padding import PADDING_ATTENDED
from striate.doctor.evidence.clock import NoEvidence


def sentences() -> DataLoader[Any]:
    """Tokens (N, 8) from 1 to 19, filled up with zeros, and which of two words is more frequent."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(1, 20, (64, 8), generator=generator)
    lengths = torch.randint(2, 9, (64,), generator=generator)
    x[torch.arange(8)[None] >= lengths[:, None]] = 0
    return DataLoader(TensorDataset(x, (x == 3).sum(1).clamp(max=1)), 16)


class Reader(nn.Module):
    """Attention in one of three ways, with a mask that is `right` or the other way round; None: without one."""

    def __init__(self, way: str, right: bool | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.way, self.right = way, right
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 2)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        x, said = self.embed(tokens), tokens != 0
        said = said if self.right is not False else ~said
        if self.way == "layer":
            x = self.layer(x, src_key_padding_mask=None if self.right is None else ~said)
        elif self.way == "fused":
            mask = None if self.right is None else said[:, None, None, :]
            x = functional.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], mask)[:, 0]
        else:
            scores = x @ x.transpose(1, 2)
            if self.right is not None:
                scores = scores.masked_fill(~said[:, None, :], -1e9)
            x = scores.softmax(-1) @ x
        out: Tensor = self.head(x[:, 0])
        return out


@pytest.mark.parametrize("way", ["layer", "fused", "written out"])
@pytest.mark.parametrize("right", [True, False, None])
def test_masks_of_attention(way: str, right: bool | None) -> None:
    try:
        found = asked(PADDING_ATTENDED, Reader(way, right), sentences(), loss=nn.CrossEntropyLoss())
    except NoEvidence:
        found = []
    assert [f.code for f in found] == ["model.attends-padding"] * (right is False)


@pytest.mark.parametrize("right", [True, False])
def test_rows_of_numbers_that_are_filled_up(right: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, lengths = torch.randn(64, 8, 4, generator=generator), torch.randint(2, 8, (64,), generator=generator)
    x[torch.arange(8)[None] >= lengths[:, None]] = 0

    class Series(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.widen, self.layer = nn.Linear(4, 8), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
            self.head = nn.Linear(8, 1)

        def forward(self, x: Tensor) -> Tensor:
            empty = (x == 0).all(2)
            out: Tensor = self.head(self.layer(self.widen(x), src_key_padding_mask=empty if right else ~empty)[:, 0])
            return out

    loader = DataLoader(TensorDataset(x, x.sum((1, 2))[:, None]), 16)
    found = asked(PADDING_ATTENDED, Series(), loader, loss=nn.MSELoss())
    assert [finding.code for finding in found] == ["model.attends-padding"] * (not right)


class Recurrent(nn.Module):
    """Reads the last state, with or without the lengths of the sentences."""

    def __init__(self, packed: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.packed = packed
        self.embed, self.layer = nn.Embedding(20, 8, padding_idx=0), nn.GRU(8, 16, batch_first=True)
        self.head = nn.Linear(16, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        given = self.embed(tokens)
        if self.packed:
            lengths = (tokens != 0).sum(1)
            given = nn.utils.rnn.pack_padded_sequence(given, lengths, batch_first=True, enforce_sorted=False)
        out: Tensor = self.head(self.layer(given)[1][0])
        return out


@pytest.mark.parametrize(("packed", "width"), [(True, 40), (False, 40), (False, 8)])
def test_the_last_state_of_a_recurrent_network(packed: bool, width: int) -> None:
    data = sentences().dataset
    x, y = data[:]
    x = nn.functional.pad(x, (0, width - 8))
    asked_of = Recurrent(packed), DataLoader(TensorDataset(x, y), 32)
    try:
        found = asked(PADDING_ATTENDED, *asked_of, loss=nn.CrossEntropyLoss())
    except NoEvidence:
        found = []
    assert [one.code for one in found] == ["model.attends-padding"] * (width > 8 and not packed)
