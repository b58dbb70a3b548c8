"""Clouds of points, clips in functional style, and splits in dictionaries: faults that were met in scripts, and their
healthy twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from asked import asked, perceptron
from test_met_in_second_heads import stepped
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from striate.doctor.checks.model.last_layer import DOUBLE_SOFTMAX


@pytest.mark.parametrize("twice", [True, False])
def test_softmax_of_what_comes_out_of_an_array(twice: bool) -> None:
    """Numbers that NumPy varies are of the batch."""

    def step(model: Any, batch: Any, optimizer: Any, _: Any) -> Tensor:
        x = torch.as_tensor(np.clip(batch[0].numpy(), -1, 1), dtype=torch.float32)
        return stepped(model, functional.cross_entropy(model(x), batch[1]), optimizer)

    model = nn.Sequential(*perceptron(), *[nn.Softmax(1)] * twice)
    options: Any = {"optimizer": torch.optim.SGD(model.parameters(), 0.1), "step": step}
    train = DataLoader(TensorDataset(torch.randn(96, 1, 8, 8), torch.arange(96) % 10), 32)
    found = asked(DOUBLE_SOFTMAX, model, train, **options)
    assert [one.code for one in found] == ["model.double-softmax"] * twice
