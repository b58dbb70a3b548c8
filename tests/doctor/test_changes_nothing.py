"""A diagnosis changes nothing, to the last bit: neither when it is done, nor when it fails, is interrupted or runs out
of time."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import in_use_steps  # noqa: F401 — enters its setups
import pytest
import torch
from in_use import BUILDERS, Builder, InUse, momentum_and_a_schedule, some_digits, with_norm_and_dropout
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from unchanged import changes, seen_of, surroundings

import striate
from quick import few_quick
from striate.errors import StriateError


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded() -> None:
    """What a first diagnosis imports may set up libraries; that is not looked at here."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])  # the first of all wraps the step of its class
    setup = momentum_and_a_schedule()
    striate.diagnose(setup.model, setup.train, setup.val, budget_seconds=2, **setup.options)


ENOUGH = 60
"""Seconds in which every check is reached on a busy machine too."""


def diagnose(setup: InUse, budget_seconds: float = 3) -> Any:
    return striate.diagnose(setup.model, setup.train, setup.val, budget_seconds=budget_seconds, **setup.options)


def assert_unchanged(setup: InUse, look: Callable[[InUse], object] = diagnose) -> None:
    """Nothing that hangs on the setup is another after it was looked at."""
    before = seen_of(**setup.everything()) | surroundings()
    look(setup)
    assert changes(before, seen_of(**setup.everything()) | surroundings()) == []


SETUPS = few_quick(BUILDERS, BUILDERS[:4])
SOME = few_quick(BUILDERS, BUILDERS[1::8])


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("build", SETUPS, ids=lambda build: build.__name__)
def test_nothing_changes(build: Builder) -> None:
    assert_unchanged(build())


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("budget", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("build", SETUPS[:3])
def test_nothing_changes_when_time_runs_out(build: Builder, budget: float) -> None:
    assert_unchanged(build(), lambda setup: diagnose(setup, budget))


def batches_after(setup: InUse) -> list[Any]:
    """The rest of the epoch that has begun, and an epoch after it."""
    rest = [] if setup.begun is None else list(setup.begun)
    return rest + list(setup.train if isinstance(setup.train, DataLoader) else [setup.train])


def same_bits(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for pair in zip(one, other, strict=True) for a, b in zip(*pair, strict=True)
    )


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("build", SOME, ids=lambda build: build.__name__)
def test_the_next_batches_are_those_that_would_have_come(build: Builder) -> None:
    expected = batches_after(build())
    setup = build()
    diagnose(setup, 1)
    assert same_bits(batches_after(setup), expected)


def trained_on(setup: InUse) -> dict[str, Tensor]:
    """The network after two more epochs."""
    optimizer, loss = setup.options.get("optimizer"), setup.options.get("loss") or functional.cross_entropy
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = (optimizer or torch.optim.Adam)(setup.model.parameters())
    for _ in range(2):
        for batch in setup.train if isinstance(setup.train, DataLoader) else [setup.train]:
            if "step" in setup.options:
                setup.options["step"](setup.model, batch, optimizer, loss)
                continue
            optimizer.zero_grad()
            loss(setup.model(batch[0]), batch[1]).backward()
            optimizer.step()
    return setup.model.state_dict()


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("build", SOME, ids=lambda build: build.__name__)
def test_training_goes_on_as_if_nothing_had_happened(build: Builder) -> None:
    expected = trained_on(build())
    setup = build()
    diagnose(setup, 1)
    found = trained_on(setup)
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.mark.slow
def test_workers_that_stay_go_on_with_their_epoch() -> None:
    def build() -> InUse:
        torch.manual_seed(3)
        train = DataLoader(some_digits(), 40, shuffle=True, num_workers=1, persistent_workers=True)
        begun = iter(train)
        next(begun)
        return InUse(with_norm_and_dropout(), train, None, {}, {}, begun)

    expected = list(build().begun or ())
    setup = build()
    diagnose(setup, 2)
    assert same_bits(list(setup.begun or ()), expected)


class Failure(Exception):
    """What nobody expects."""


class Fuse:
    """Raises at the n-th call, whatever copy it is called from: it counts by itself."""

    left = 0
    error: type[BaseException] = Failure
    always = False

    @classmethod
    def set(cls, calls: int, error: type[BaseException], always: bool = False) -> None:
        cls.left, cls.error, cls.always = calls, error, always

    @classmethod
    def burn(cls) -> None:
        cls.left -= 1
        if cls.left == 0 or (cls.always and cls.left < 0):
            raise cls.error("a fuse has burned")


class Through(torch.autograd.Function):
    """The same number, through a place where an error can happen on the way back."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return x * 1

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        Fuse.burn()
        return grad


class Fused(nn.Module):
    """A network with a fuse in it."""

    def __init__(self, body: nn.Module, where: str) -> None:
        super().__init__()
        self.body, self.where = body, where

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        if self.where == "backward":
            return Through.apply(x)  # type: ignore[no-any-return]
        Fuse.burn()
        return x


class FusedData(torch.utils.data.Dataset):
    """Samples with a fuse in one of them."""

    def __init__(self) -> None:
        self.data = some_digits()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        Fuse.burn()
        return self.data[index]


def fused_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    Fuse.burn()
    return functional.cross_entropy(outputs, labels)


def fused_step(model: nn.Module, batch: Any, optimizer: torch.optim.Optimizer, loss: nn.Module) -> Tensor:
    optimizer.zero_grad()
    error = loss(model(batch[0]), batch[1])
    error.backward()
    optimizer.step()
    Fuse.burn()
    return error


def fused(where: str) -> InUse:
    """A setup in use with a fuse in one place."""
    setup = momentum_and_a_schedule()
    if where in ("forward", "backward"):
        setup.model = Fused(setup.model, where)
    elif where == "loss":
        setup.options["loss"] = fused_loss
    elif where == "step":
        setup.options["step"] = fused_step
    else:
        setup.train = DataLoader(FusedData(), 32, shuffle=True)
    return setup


def checks_with_a_fuse(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    """The check in that place burns the fuse, counted among those that run here and whose codes no other check has."""
    module = importlib.import_module("striate.doctor.diagnose")
    checks = list(module.every_check())
    times = Counter(code for check in checks if not check.of_source for code in check.codes)
    alone = [at for at, check in enumerate(checks) if {times[code] for code in check.codes} == {1}]
    checks[alone[place]] = replace(checks[alone[place]], run=lambda _: Fuse.burn())
    monkeypatch.setattr(module, "every_check", lambda: tuple(checks))


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("place", [0, 20, -1])
def test_nothing_changes_when_a_check_raises(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    checks_with_a_fuse(monkeypatch, place)

    def look(setup: InUse) -> None:
        budget = ENOUGH if place else 1  # the first is reached at once
        assert "a fuse has burned" in "".join(diagnose(setup, budget).skipped.values())

    Fuse.set(1, Failure)
    assert_unchanged(momentum_and_a_schedule(), look)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("place", [0, 20, -1])
def test_nothing_changes_when_a_check_is_interrupted(monkeypatch: pytest.MonkeyPatch, place: int) -> None:
    checks_with_a_fuse(monkeypatch, place)

    def look(setup: InUse) -> None:
        with pytest.raises(KeyboardInterrupt):
            diagnose(setup, ENOUGH)

    Fuse.set(1, KeyboardInterrupt)
    assert_unchanged(momentum_and_a_schedule(), look)


PLACES = ["forward", "backward", "loss", "data", "step"]


@pytest.mark.each_nth(7)
@pytest.mark.parametrize("calls", [1, 3, 40])
@pytest.mark.parametrize("where", PLACES)
def test_nothing_changes_when_something_raises(where: str, calls: int) -> None:
    def look(setup: InUse) -> None:
        with suppress(StriateError):  # what is no fault of training may be refused
            diagnose(setup)

    setup = fused(where)
    Fuse.set(calls, Failure)
    assert_unchanged(setup, look)


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("where", PLACES)
def test_what_always_raises_is_told(where: str) -> None:
    def look(setup: InUse) -> None:
        try:
            told = "".join(map(str, diagnose(setup).findings))
        except StriateError as refusal:
            told = str(refusal)
        assert "a fuse has burned" in told

    setup = fused(where)
    Fuse.set(1, RuntimeError, always=True)
    assert_unchanged(setup, look)


@pytest.mark.each_nth(7)
@pytest.mark.parametrize("calls", [1, 2, 5, 17])
@pytest.mark.parametrize("where", PLACES)
def test_nothing_changes_when_it_is_interrupted(where: str, calls: int) -> None:
    def look(setup: InUse) -> None:
        with pytest.raises(KeyboardInterrupt):
            diagnose(setup, ENOUGH)

    setup = fused(where)
    Fuse.set(calls, KeyboardInterrupt)
    assert_unchanged(setup, look)
