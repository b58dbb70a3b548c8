"""A replica of a setup: network, optimizer, loss and step copied together, so that their ties are kept."""

from __future__ import annotations

from typing import Any

import pytest
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


class Callback:
    """As of fastai: it reads all that it lacks from its trainer, so that `copy.deepcopy` fails on it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["trainer"], name)

    def begin_batch(self) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = 0.1 * (self.number + 1)


class Trainer:
    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, callbacks: Any) -> None:
        self.model, self.optimizer, self.callbacks, self.number = model, optimizer, callbacks, 0
        for callback in callbacks.values() if isinstance(callbacks, dict) else callbacks:
            callback.trainer = self

    def one_batch(self, x: Tensor, y: Tensor) -> Tensor:
        for callback in self.callbacks.values() if isinstance(self.callbacks, dict) else self.callbacks:
            callback.begin_batch()
        self.optimizer.zero_grad()
        loss: Tensor = LOSS(self.model(x), y)
        loss.backward()
        self.optimizer.step()
        self.number += 1
        return loss


@pytest.mark.parametrize("dictionary", [False, True])
def test_callbacks_that_refer_to_their_trainer_are_copied_with_it(dictionary: bool) -> None:
    """The callbacks of the copy set the rate of the copy, and the user's optimizer keeps its own."""
    model, callback = perceptron(), Callback()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    trainer = Trainer(model, optimizer, {"rate": callback} if dictionary else [callback])

    def step(net: nn.Module, batch: Any, own: torch.optim.Optimizer, loss: Any) -> Tensor:
        return trainer.one_batch(*batch)

    twin = make_replica(make_setup(model, digits(), loss=LOSS, step=step, optimizer=optimizer))
    rates = []
    for _ in range(3):
        twin.step(twin.model, next(iter(digits())), twin.optimizer, twin.loss)
        rates.append(twin.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.1, 0.2, 0.3])
    assert (optimizer.param_groups[0]["lr"], trainer.number) == (0.5, 0)


class Wrapped(torch.optim.Optimizer):
    """As Accelerate's optimizers: around another one, and copied with all attributes."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        self.inner, self.defaults = inner, inner.defaults

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.inner.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> Any:
        return self.inner.step(closure)

    def __getstate__(self) -> dict[str, Any]:
        return dict(vars(self))


def test_an_optimizer_that_a_scheduler_watches_steps_its_copy() -> None:
    model = perceptron()
    optimizer = Wrapped(torch.optim.SGD(model.parameters(), 0.1))
    torch.optim.swa_utils.SWALR(optimizer, swa_lr=0.05)
    twin = make_replica(make_setup(model, digits(), loss=LOSS, optimizer=optimizer))
    before = [[p.detach().clone() for p in network.parameters()] for network in (model, twin.model)]
    twin.step(twin.model, next(iter(digits())), twin.optimizer, twin.loss)
    kept = [
        all(torch.equal(p, q) for p, q in zip(old, network.parameters(), strict=True))
        for old, network in zip(before, (model, twin.model), strict=True)
    ]
    assert kept == [True, False]
