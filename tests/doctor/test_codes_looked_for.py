"""From a network and what it is trained with to findings."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from for_checks.asked import digits, perceptron
from striate.doctor.diagnose import diagnose

LOSS = nn.CrossEntropyLoss()


@pytest.mark.slow
def test_a_code_that_another_check_looked_for_is_not_left_out() -> None:
    model = perceptron()
    loader, val = digits(), digits(most=64)
    diagnosis = diagnose(model, loader, val, loss=LOSS, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    assert "loss.sign" not in diagnosis.skipped
    assert "data.leak" not in diagnosis.skipped
