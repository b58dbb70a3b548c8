"""`model.order-ignored`: does attention without positions, which cannot tell the order of a sequence, learn nothing?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked
from striate.doctor.checks.model.order_ignored import CHECK
from striate.doctor.evidence.clock import NoEvidence

POSITIONS = 8


def rows(*, ordered: bool = True, features: bool = False) -> DataLoader[Any]:
    """Rows of tokens, whose first is larger than their last (`ordered`), or which have many large ones."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 12, (768, POSITIONS), generator=generator)
    y = (x[:, 0] > x[:, -1]) if ordered else (x > 5).sum(1) > POSITIONS // 2
    return DataLoader(TensorDataset(nn.functional.one_hot(x, 12).float() if features else x, y.long()), 64)


class Reader(nn.Module):
    """Attention, as a layer or written out, with or without an embedding of the positions."""

    def __init__(self, *, positions: bool = False, layer: bool = True, features: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed: nn.Module = nn.Linear(12, 16) if features else nn.Embedding(12, 16)
        self.positions = nn.Embedding(POSITIONS, 16) if positions else None
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True) if layer else None
        self.mix, self.head = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embed(tokens)
        if self.positions is not None:
            x = x + self.positions(torch.arange(x.shape[1]))
        x = ((self.mix(x) @ x.transpose(1, 2)).softmax(-1) @ x).relu() if self.layer is None else self.layer(x)
        out: Tensor = self.head(x.mean(1))
        return out


def codes(network: nn.Module, loader: DataLoader[Any]) -> list[str]:
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    return [one.code for one in asked(CHECK, network, loader, loss=nn.CrossEntropyLoss(), optimizer=adam)]


@pytest.mark.parametrize("layer", [True, False])
@pytest.mark.parametrize("features", [True, False])
def test_attention_without_positions_that_learns_nothing(layer: bool, features: bool) -> None:
    assert codes(Reader(layer=layer, features=features), rows(features=features)) == ["model.order-ignored"]


def test_with_positions_nothing_is_said() -> None:
    assert codes(Reader(positions=True), rows()) == []


def test_of_a_network_that_learns_without_order_nothing_is_said() -> None:
    assert codes(Reader(), rows(ordered=False)) == []


def test_other_networks_are_not_asked() -> None:
    network = nn.Sequential(nn.Embedding(12, 8), nn.AdaptiveAvgPool2d((1, 8)), nn.Flatten(), nn.Linear(8, 2))
    with pytest.raises(NoEvidence, match="no attention"):
        codes(network, rows())


class Shifted(Reader):
    """An encoding of the positions that is added along the axis of the samples."""

    def forward(self, tokens: Tensor) -> Tensor:
        x: Tensor = self.embed(tokens) + torch.linspace(-1, 1, len(tokens))[:, None, None]
        assert self.layer is not None
        out: Tensor = self.head(self.layer(x).mean(1))
        return out


def test_an_encoding_along_the_samples_is_named() -> None:
    network = Shifted()
    adam = torch.optim.Adam(network.parameters(), 1e-3)
    (found,) = asked(CHECK, network, rows(), loss=nn.CrossEntropyLoss(), optimizer=adam)
    assert "along the wrong axis" in found.why
