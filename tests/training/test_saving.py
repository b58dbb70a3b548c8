"""Saving in the background: in time, never in the way, and its errors told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from striate.errors import RunError
from striate.runs.background import BackgroundWriter
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import create_run
from striate.training import saving
from striate.training.saving import Saver, copied


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the clock shows, in seconds."""
    shown = [100.0]
    monkeypatch.setattr(saving, "monotonic", lambda: shown[0])
    return shown


def content(value: float) -> dict[str, object]:
    return {"model": {"w": torch.tensor([value])}, "step": int(value)}


@pytest.mark.parametrize(
    ("seconds", "passed", "epoch_over", "due"),
    [
        (2.0, 1.9, False, False),
        (2.0, 2.0, False, True),
        (600.0, 100.0, False, False),
        (600.0, 2.0, True, True),  # the end of an epoch
        (600.0, 1.9, True, False),  # an epoch of milliseconds
        (0.5, 0.5, True, True),
    ],
)
def test_it_is_time_every_so_many_seconds_and_at_the_ends_of_epochs(
    clock: list[float], seconds: float, passed: float, epoch_over: bool, due: bool
) -> None:
    saver = Saver(create_run(Path("run"), "run"), seconds)
    clock[0] += passed
    assert saver.due(epoch_over=epoch_over) == due


def test_what_takes_long_is_done_less_often(clock: list[float]) -> None:
    saver = Saver(create_run(Path("run"), "run"), 2.0)
    saver._writer.seconds = 0.5
    clock[0] += 0.5 / saving.SHARE - 1
    assert not saver.due(epoch_over=True)
    clock[0] += 1
    assert saver.due(epoch_over=True)


def test_training_may_go_on_in_what_is_being_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    run, go_on, original = create_run(Path("run"), "run"), threading.Event(), saving.replace_checkpoint

    def late(*arguments: object) -> None:
        go_on.wait(10)
        original(*arguments)

    monkeypatch.setattr(saving, "replace_checkpoint", late)
    saver, state = Saver(run, 1e-6), content(1.0)
    saver.save(state, None)
    assert not saver.due(epoch_over=True)  # one at a time
    state["model"]["w"] += 5
    go_on.set()
    saver.wait()
    assert load_checkpoint(run.last)["model"]["w"].item() == 1.0


def test_the_best_is_written_before_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(saving, "save_checkpoint", lambda path, *_: order.append(path.name))
    monkeypatch.setattr(saving, "replace_checkpoint", lambda path, *_: order.append(path.name))
    saver = Saver(create_run(Path("run"), "run"), 2.0)
    saver.save(content(1.0), content(0.0))
    saver.wait()
    assert order == ["best.pt", "last.pt"]


@pytest.mark.parametrize("then", ["due", "save", "wait"])
def test_an_error_in_the_background_is_raised_by_the_next_call(monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    def full(*_: object) -> None:
        raise RunError("last.pt", "cannot be used: No space left on device", "room", "free some space")

    monkeypatch.setattr(saving, "replace_checkpoint", full)
    saver = Saver(create_run(Path("run"), "run"), 2.0)
    saver.save(content(1.0), None)
    saver._writer._idle.wait()
    calls = {"due": lambda: saver.due(epoch_over=False), "save": lambda: saver.save(content(2.0), None)}
    with pytest.raises(RunError, match="No space left"):
        (calls | {"wait": saver.wait})[then]()
    saver.wait()  # told once


def test_a_job_that_hangs_does_not_keep_who_gives_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from striate.runs import background

    monkeypatch.setattr(background, "_PATIENCE", 0.01)
    release, writer = threading.Event(), BackgroundWriter()
    writer.submit(lambda: release.wait(10) and None)
    writer.give_up()
    assert writer.given_up()
    writer.wait()
    release.set()
    writer._idle.wait()


def test_a_copy_is_of_the_same_kind_and_has_its_own_tensors() -> None:
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    state = {"model": network.state_dict(), "list": [torch.ones(2), 1], "none": None}
    same = copied(state)
    assert type(same["model"]) is type(state["model"])
    assert same["model"]._metadata == state["model"]._metadata
    assert same["model"]["0.weight"].stride() == network[0].weight.stride()
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor.zero_()
    assert same["model"]["0.weight"].abs().sum() > 0
    assert same["list"][1:] == [1]
    assert same["none"] is None
