"""`model.redundant-filters`: do features differ from each other, and do they vary?"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import asked, digits, loop
from striate.doctor.checks.model.redundant_filters import REDUNDANT_FILTERS


class Coupling(nn.Module):
    """Half of its outputs are left out by a mask; its last layer begins at zero."""

    def __init__(self, masked: bool) -> None:
        super().__init__()
        self.hidden, self.last = nn.Linear(64, 32), nn.Linear(32, 16)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.classes, self.mask = nn.Linear(16, 10), torch.arange(16) % 2 if masked else torch.ones(16)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.classes(self.last(self.hidden(x.flatten(1)).relu()) * self.mask)
        return found


@pytest.mark.parametrize("masked", [True, False])
def test_outputs_that_a_mask_leaves_out_are_no_copies(masked: bool) -> None:
    torch.manual_seed(0)
    model = Coupling(masked)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    assert not asked(REDUNDANT_FILTERS, model, digits(), optimizer=optimizer, step=loop, loss=functional.cross_entropy)


def convolutions() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)
    )


@pytest.mark.slow
def test_filters_that_are_copies() -> None:
    model = convolutions()
    assert not asked(REDUNDANT_FILTERS, model, digits())
    with torch.no_grad():
        model[0].weight[1:] = model[0].weight[:1] + 1e-3 * torch.randn(11, 1, 3, 3)
    (found,) = asked(REDUNDANT_FILTERS, model, digits(), optimizer=torch.optim.SGD(model.parameters(), lr=0.01))
    assert (found.code, found.severity, found.where) == ("model.redundant-filters", "warning", "model[0]")
    assert found.measured.startswith("92 % of the filters of model[0] are copies")


def test_filters_without_an_answer() -> None:
    model = convolutions()
    with torch.no_grad():
        model[2].weight[2:] = 0
    (found,) = asked(REDUNDANT_FILTERS, model, digits(), optimizer=torch.optim.SGD(model.parameters(), lr=0.01))
    assert "83 % of its feature maps are the same everywhere" in found.measured


def test_one_number_looked_at_in_many_ways_is_no_copy() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 12, 1), nn.ReLU(), nn.Flatten(), nn.Linear(768, 10))
    assert not asked(REDUNDANT_FILTERS, model, digits())


def test_positions_of_padding_are_no_filters_of_an_embedding() -> None:
    torch.manual_seed(0)
    tokens = torch.randint(1, 20, (256, 8))
    tokens[:, 3:] = 0
    loader = DataLoader(TensorDataset(tokens, tokens[:, 0] % 4), 32, shuffle=True)
    words = nn.Embedding(20, 8, padding_idx=0)
    model = nn.Sequential(words, nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 4))
    assert not asked(REDUNDANT_FILTERS, model, loader)
