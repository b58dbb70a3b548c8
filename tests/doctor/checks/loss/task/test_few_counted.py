"""A loss that depends on only one sample of each batch, or on one position of sequences."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from striate.doctor.checks.loss.task.few_counted import few_counted
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup


@pytest.mark.parametrize(("same", "wrong"), [(True, False), (False, True)])
def test_few_nodes_of_one_graph_may_have_labels(same: bool, wrong: bool) -> None:
    """The same 160 nodes in each step, and a loss of the ten that are labeled; of other samples each time it is a
    loss that leaves most of each batch out."""
    generator = torch.Generator().manual_seed(0)
    nodes = [torch.randn(160, 8, generator=generator) for _ in range(12)]
    batches = [(x, (x[:, 0] > 0).long()) for x in (nodes[:1] * 12 if same else nodes)]
    torch.manual_seed(0)

    def step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, _: Any) -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(model(batch[0])[:10], batch[1][:10])
        value.backward()
        optimizer.step()
        return value

    model = nn.Linear(8, 2)
    setup = make_setup(model, batches, None, optimizer=torch.optim.Adam(model.parameters(), lr=0.01), step=step)
    assert (few_counted(Evidence(setup, Clock(20.0))) is not None) == wrong
