"""A short training of a replica: the user's own steps, with what happened in each."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from for_checks.asked import digits, perceptron
from for_checks.rewards import uncleared
from striate.doctor.evidence.trial import Change, run_trial
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


def test_hooks_work_on_copies_in_trials_with_another_optimizer_too() -> None:
    model, train, calls = perceptron(), digits(), list[int]()
    optimizer, other = torch.optim.SGD(model.parameters(), 0.01), torch.optim.SGD([torch.zeros(1)], 0.01)
    optimizer.register_step_pre_hook(lambda *_: calls.append(1))
    other.register_step_post_hook(lambda *_: calls.append(2))

    def step(model: Any, batch: Any, optimizer: Any, loss: Any) -> Any:
        other.step()
        value = uncleared(model, batch, optimizer, loss)
        return torch.tensor(float(calls[0] + calls[1])) + 0 * value

    setup = make_setup(model, train, step=step, optimizer=optimizer, loss=LOSS)
    for change in (Change(), Change(optimizer=lambda model: torch.optim.Adam(model.parameters()))):
        trial = run_trial(setup, list(train)[:1], 1, float("inf"), change)
        assert trial.losses == [3.0]
    assert not calls
