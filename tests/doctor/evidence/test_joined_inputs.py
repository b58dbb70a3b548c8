"""Which inputs of a network are judged together as one table."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import stepped
from striate.doctor.evidence.clock import Clock, NoEvidence
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.preserved_state import state_preserved
from striate.doctor.setup.training_setup import make_setup


class OfTwo(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 2)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        out: Tensor = self.linear(torch.cat([one, other], 1))
        return out


@pytest.mark.parametrize("in_pairs", [True, False])
def test_samples_of_pairs_that_a_network_sees_one_by_one_are_no_table(in_pairs: bool) -> None:
    torch.manual_seed(0)
    one, other, y = torch.randn(32, 3), torch.randn(32, 3), torch.arange(32) % 2
    model = nn.Linear(3, 2) if in_pairs else OfTwo()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
        one, other, y = batch
        outputs = (model(one) - model(other)).abs() if in_pairs else model(one, other)
        return stepped(loss(outputs, y), optimizer)

    setup = make_setup(
        model, DataLoader(TensorDataset(one, other, y), 8), loss=nn.CrossEntropyLoss(), optimizer=optimizer, step=step
    )
    with state_preserved(setup):
        samples = Evidence(setup, Clock(60.0)).samples
        if in_pairs:
            with pytest.raises(NoEvidence, match="several inputs"):
                _ = samples.sole_inputs
        else:
            assert torch.equal(samples.sole_inputs, torch.cat([one, other], 1))
