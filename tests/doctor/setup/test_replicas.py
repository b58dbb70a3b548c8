"""A replica of a setup: network, optimizer, loss and step copied together, so that their ties are kept."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from for_checks.asked import digits, perceptron
from striate.doctor.setup.replicas import make_replica
from striate.doctor.setup.training_setup import make_setup

LOSS = nn.CrossEntropyLoss()


class State:
    shared: dict[str, Any] = {"on": False}  # noqa: RUF012 — what is tried

    def __init__(self) -> None:
        self.__dict__ = State.shared


def test_states_that_all_objects_share_stay_shared() -> None:
    model, state = perceptron(), State()

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        if state.on:
            own.zero_grad()
            loss(net(batch[0]), batch[1]).backward()
            own.step()
        return torch.zeros(())

    step.__module__ = "__main__"
    twin = make_replica(
        make_setup(model, digits(), loss=LOSS, step=step, optimizer=torch.optim.SGD(model.parameters(), 0.1))
    )
    before = [p.detach().clone() for p in twin.model.parameters()]
    State.shared["on"] = True
    try:
        twin.step(twin.model, next(iter(digits())), twin.optimizer, twin.loss)
    finally:
        State.shared["on"] = False
    assert not all(torch.equal(p, q) for p, q in zip(before, twin.model.parameters(), strict=True))
