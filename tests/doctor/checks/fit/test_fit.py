"""Checks of `fit.`."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from for_checks.asked import asked, digits
from striate.doctor.checks.fit import plateau
from striate.doctor.checks.fit.plateau import PLATEAU

LOSS = nn.CrossEntropyLoss()


def deep_sigmoids() -> nn.Sequential:
    torch.manual_seed(0)
    hidden: list[nn.Module] = []
    for _ in range(6):
        hidden += [nn.Linear(10, 10), nn.Sigmoid()]
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Sigmoid(), *hidden, nn.Linear(10, 10))


@pytest.mark.slow
def test_a_loss_that_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plateau, "longer", lambda evidence: evidence.trial)  # as if there were no time for more
    model = deep_sigmoids()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    (found,) = asked(PLATEAU, model, digits(), loss=LOSS, optimizer=optimizer)
    assert (found.code, found.severity) == ("fit.plateau", "warning")
    assert "no better than a guess" in found.measured
    assert "BatchNorm2d" in found.remedy
