"""Clips, clouds of points and spectrograms: faults that were met in scripts, and their healthy twins."""

from __future__ import annotations

import pytest
import torch
from asked import asked
from test_source_checks import found, values
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.data.axes_dealt import AXES_DEALT
from striate.doctor.checks.eval.modes import MODE

VALIDATED = """
def validate(network, batches):
    classifier = network{mode}
    for x, y in batches:
        with torch.no_grad():
            outputs = classifier(x)
for epoch in range(5):
    model.train()
    for x, y in loader:
        criterion(model(x), y).backward()
    validate(model, val_loader)
"""


@pytest.mark.parametrize("mode", ["", ".eval()"])
def test_a_network_may_be_called_by_another_name(mode: str) -> None:
    assert list(found(VALIDATED.format(mode=mode), values(), [MODE])) == ["eval.mode"] * (not mode)


class Points(nn.Module):
    """Points (N, 16, 3), turned by drawn numbers, or by weights, to a convolution that wants channels first."""

    def __init__(self, read: str, learned: bool) -> None:
        super().__init__()
        self.read, self.learned, self.turns = read, learned, nn.Parameter(torch.randn(3, 3))
        self.first, self.last = nn.Conv1d(3, 8, 1), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        turns = self.turns.expand(len(x), 3, 3) if self.learned else torch.randn(len(x), 3, 3)
        x = torch.bmm(x, turns)
        x = x.transpose(1, 2) if self.read == "transpose" else x.reshape(len(x), 3, -1)
        return self.last(self.first(x).relu().amax(2))


@pytest.mark.parametrize(("read", "learned"), [("reshape", False), ("reshape", True), ("transpose", False)])
def test_what_is_turned_by_drawn_numbers_is_not_learned(read: str, learned: bool) -> None:
    model, train = Points(read, learned), DataLoader(TensorDataset(torch.randn(64, 16, 3), torch.arange(64) % 2), 32)
    said = asked(AXES_DEALT, model, train, optimizer=torch.optim.SGD(model.parameters(), 0.01))
    assert [one.code for one in said] == ["data.scrambled"] * (read == "reshape" and not learned)
