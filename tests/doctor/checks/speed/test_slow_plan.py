"""speed.slow-plan: is the same step much faster in another number format, another layout, or without a search for
anomalies?"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from for_checks.asked import asked, digits, loop, perceptron
from striate.doctor.checks.speed.slow_plan import SLOW_PLAN

LOSS = nn.CrossEntropyLoss()


def looking_for_anomalies(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: Any) -> Tensor:
    with torch.autograd.set_detect_anomaly(True):
        return loop(model, batch, optimizer, loss)


@pytest.mark.slow
def test_a_search_for_anomalies_in_the_step_or_around_it() -> None:
    (found,) = asked(SLOW_PLAN, perceptron(), digits(), step=looking_for_anomalies, loss=LOSS)
    assert (found.code, found.severity) == ("speed.slow-plan", "note")
    with torch.autograd.set_detect_anomaly(True):
        (found,) = asked(SLOW_PLAN, perceptron(), digits(), loss=LOSS)
    assert "set_detect_anomaly" in found.remedy
