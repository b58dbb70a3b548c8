"""Minutes are measured on copies that nothing can hurt, with everything that costs time."""

from __future__ import annotations

import threading

import pytest
import torch
from short_runs import asked_for
from torch import nn

from striate.errors import ModelError
from striate.training.objective import Objective
from striate.training.prepare import prepare

MINUTES = {"epochs": None, "budget__minutes": 0.01}


@pytest.mark.parametrize("optimizer", ["sgd", "lars", "muon"])
def test_a_peak_that_only_a_warm_up_bears_can_be_measured(optimizer: str) -> None:
    fields = {"optim__name": optimizer, "optim__lr": 1e20, "model__name": "mlp(8)"}
    assert (prepare(asked_for(**MINUTES, **fields)).config.budget.steps or 0) >= 1


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock, self.out = threading.Lock(), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x.flatten(1))


@pytest.mark.parametrize("fields", [MINUTES, {"optim__ema": 0.9}], ids=["minutes", "average"])
def test_a_network_that_cannot_be_copied_is_refused_only_where_it_has_to_be(fields: dict) -> None:
    with pytest.raises(ModelError, match="cannot be copied"):
        prepare(asked_for(**fields), Locked())
    prepare(asked_for(), Locked())


def test_validation_is_measured_with_its_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    original, numbers = Objective.tally, []

    def tally(self: Objective, *given: object) -> torch.Tensor:
        result = original(self, *given)
        numbers.append((self.heads is not None, len(result)))
        return result

    monkeypatch.setattr(Objective, "tally", tally)
    prepared = prepare(asked_for(**MINUTES, auxiliary__rotation=0.5))
    assert prepared.state.heads is not None
    plain = prepare(asked_for()).objective.task
    assert numbers
    assert all(heads for heads, _ in numbers)
    assert numbers[0][1] == 2 + len(plain.tally(torch.zeros(1, 10), torch.zeros(1, dtype=torch.long)))
