"""What other processes take of the cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from striate.machine import load


@contextmanager
def machine(patch: pytest.MonkeyPatch, cores: list[list[SimpleNamespace]], own: list[float]) -> Iterator[None]:
    """A machine whose counters read as given, one entry a reading, a second apart."""
    clock, counters, used = iter([0.0, 1.0, 1.0]), iter(cores), iter(own)
    patch.setattr(load, "monotonic", lambda: next(clock))
    patch.setattr(load, "sleep", lambda _: None)
    patch.setattr(load.psutil, "cpu_times", lambda **_: next(counters))
    patch.setattr(load, "own_cores", lambda: (0, 1))
    patch.setattr(load.os, "times", lambda: SimpleNamespace(user=next(used), system=0.0))
    yield


def core(user: float, **more: float) -> SimpleNamespace:
    return SimpleNamespace(**({"user": user, "nice": 0.0, "system": 0.0, "idle": 99.0} | more))


@pytest.mark.parametrize(
    ("after", "own", "taken", "name", "busy"),
    [
        ([core(0.0), core(0.0)], 0.0, 0.0, "quiet", False),
        ([core(1.0), core(1.0)], 0.0, 2.0, "2 of 2 cores taken", True),
        ([core(1.0), core(0.2)], 1.0, 0.2, "quiet", False),
        ([core(1.0), core(1.0)], 1.0, 1.0, "1 of 2 cores taken", True),
        ([core(0.0, steal=0.5), core(0.0)], 0.0, 0.5, "1 of 2 cores taken", True),
        ([core(0.5), core(0.0)], 0.9, 0.0, "quiet", False),  # counted at other moments: never below nothing
    ],
)
def test_own_work_is_not_load(
    after: list, own: float, taken: float, name: str, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine(monkeypatch, [[core(0.0), core(0.0)], after], [0.0, own]):
        measured = load.load_since(load.mark())
    assert measured.taken == pytest.approx(taken)
    assert (measured.name, measured.busy, measured.cores) == (name, busy, 2)


def test_other_cores_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before, after = [core(0.0)] * 4, [core(0.0), core(0.0), core(1.0), core(1.0)]
    with machine(monkeypatch, [before, after], [0.0, 0.0]):
        assert load.load_since(load.mark()).taken == 0


def test_this_machine_can_be_measured() -> None:
    measured = load.current_load(0.1)
    assert measured.cores >= 1
    assert 0 <= measured.taken <= measured.cores
    assert measured.seconds >= 0.1
