"""`model.attends-padding`: does attention see only the padding, because its mask is inverted?"""

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
