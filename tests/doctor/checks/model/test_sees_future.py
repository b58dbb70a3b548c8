"""`model.sees-future`: does a network that predicts the next token read it from its input?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.model.sees_future import outputs_moved
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


class Never(nn.Module):
    """Scores of next words, of which the first is never meant; those of a mean over all positions see what comes."""

    def __init__(self, looks: bool) -> None:
        super().__init__()
        self.words, self.out, self.looks = nn.Embedding(20, 8), nn.Linear(8, 20), looks

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.words(x)
        hidden = hidden + hidden.mean(1, keepdim=True) if self.looks else hidden
        scores: Tensor = self.out(hidden)
        return scores.index_fill(2, torch.tensor([0]), -torch.inf)


@pytest.mark.parametrize("looks", [True, False])
def test_scores_of_minus_infinity_move_by_nothing(looks: bool) -> None:
    torch.manual_seed(0)
    words = torch.randint(1, 20, (64, 9))
    data = DataLoader(TensorDataset(words[:, :-1], words[:, 1:]), 32)

    def step(net: nn.Module, batch: Any, optimizer: Any, loss: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(net(batch[0]).flatten(0, 1), batch[1].flatten())
        value.backward()
        optimizer.step()
        return value.detach()

    model = Never(looks)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    evidence = Evidence(make_setup(model, data, None, optimizer=optimizer, step=step), Clock(120.0))

    def change(tokens: Tensor) -> Tensor:
        return torch.cat([tokens[:, :4], tokens[:, 4:] % 19 + 1], 1)

    moved, deviation = outputs_moved(evidence, evidence.train.raw[0], (0,), change)
    assert (float(moved[:, :4].max()) > 1e-3 * deviation) is looks
