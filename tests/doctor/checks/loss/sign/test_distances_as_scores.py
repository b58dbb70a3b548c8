"""Distances that are passed to cross entropy as if they were scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from for_checks.asked import digits, loop, perceptron
from striate.doctor.checks.loss.sign.distances_as_scores import distances_asked
from striate.doctor.evidence.clock import Clock
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def test_probabilities_are_no_distances() -> None:
    class Sure(nn.Module):
        """Probabilities of which the right class has the lowest as often as not."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = perceptron()

        def forward(self, x: Tensor) -> Tensor:
            return (self.inner(x) * 1e-3).softmax(1)

    x, _ = digits().dataset.tensors  # type: ignore[attr-defined]
    model = Sure()
    worst = model(x).argmin(1)
    data = DataLoader(TensorDataset(x, worst), 32)
    setup = make_setup(model, data, None, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 1e-6), step=loop)
    assert distances_asked(Evidence(setup, Clock(60.0))) is None
