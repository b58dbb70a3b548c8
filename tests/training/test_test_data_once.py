"""Test data are read at the end, after the last choice: a test split that notes whoever opens it, and bugs planted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quick import few_quick
from striate.api.planning import plan_training
from striate.api.studies import find_learning_rate, sweep
from striate.api.training import train
from striate.data.dataset import Dataset, Split
from striate.report import finish
from striate.training import loop, prepare
from striate.training.budget import steps
from striate.training.recipes import facts

MODEL = "conv(4,3) relu pool(2) fc(4)"
PLAIN = {"execution.plan": "plain", "execution.device": "cpu"}


class Guard(Split):
    """A split whose inputs and targets nobody may see before it is opened; `peeks` has who did."""

    opened = False
    peeks: tuple[str, ...] = ()

    @classmethod
    def around(cls, split: Split) -> Guard:
        return cls(split.inputs, split.targets, split.ids)

    def _guarded(self, name: str) -> Any:
        if not Guard.opened:
            Guard.peeks = (*Guard.peeks, name)
            raise AssertionError(f"the {name} of the test split were looked at before the end")
        return self.__dict__[name]

    inputs = property(lambda self: self._guarded("inputs"), lambda self, v: self.__dict__.__setitem__("inputs", v))  # type: ignore[assignment]
    targets = property(lambda self: self._guarded("targets"), lambda self, v: self.__dict__.__setitem__("targets", v))  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def guarded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(Guard, "opened", False)
    monkeypatch.setattr(Guard, "peeks", ())
    monkeypatch.chdir(tmp_path)
    load, to_device, evaluate = prepare.load_dataset, prepare.to_device, finish._evaluate

    def loading(*args: Any, **named: Any) -> Dataset:
        data = load(*args, **named)
        return replace(data, splits=data.splits | {"test": Guard.around(data.splits["test"])})

    def moving(split: Split, device: torch.device) -> Split:
        return split if isinstance(split, Guard) else to_device(split, device)

    def evaluating(run: Any, prepared: Any, *rest: Any) -> Any:
        assert prepared.state.history, "training is over"
        Guard.opened = True
        return evaluate(run, prepared, *rest)

    monkeypatch.setattr(prepare, "load_dataset", loading)
    monkeypatch.setattr(prepare, "to_device", moving)
    monkeypatch.setattr(finish, "_evaluate", evaluating)
    yield
    Guard.opened = False


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Images of four classes with a test split of their own; `other` ones are tested with other images and labels."""

    def make(*, other: bool = False) -> Path:
        path = tmp_path_factory.mktemp("arrays") / "data.npz"
        random = np.random.default_rng(0)
        labels = np.arange(200) % 4
        images = random.integers(0, 120, (200, 8, 8), dtype=np.uint8) + 30 * labels[:, None, None].astype(np.uint8)
        tested, truth = images[160:], labels[160:]
        if other:
            tested, truth = np.random.default_rng(1).integers(0, 256, tested.shape, dtype=np.uint8), truth[::-1]
        np.savez(path, x_train=images[:160], y_train=labels[:160], x_test=tested, y_test=truth)
        return path

    return make


WAYS: dict[str, dict[str, Any]] = {
    "the usual": {},
    "another recipe": {"recipe": "quick"},
    "until a target": {"target": 0.3, "epochs": 4},
    "with patience": {"epochs": 4, "set": {"budget.patience": 1}},
    "in minutes": {"minutes": 0.03, "epochs": None},
    "with views": {"set": {"evaluation.views": "mirror"}},
    "with baselines": {"baseline": True},
    "averaged": {"set": {"optim.ema": 0.9, "task.class_weights": "balanced"}},
}


@pytest.mark.parametrize("way", few_quick(WAYS, ["with patience"]))
def test_training_reads_it_once_it_is_over(way: str, arrays) -> None:
    asked = {"epochs": 2} | WAYS[way]
    train(arrays(), MODEL, out="run", **asked | {"set": PLAIN | asked.get("set", {})})
    assert (Guard.opened, Guard.peeks) == (True, ())


@pytest.mark.slow
def test_a_forecast_does_not(arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TELLING", "_MEASURED"):
        monkeypatch.setattr(steps, name, 0.0)
    run = train(arrays(), MODEL, epochs=8, out="run", set=PLAIN)
    assert "forecast" in run.metrics
    assert Guard.peeks == ()


@pytest.mark.slow
def test_looking_for_a_rate_never_does(arrays) -> None:
    find_learning_rate(arrays(), MODEL, seconds=1, set=PLAIN)
    assert (Guard.opened, Guard.peeks) == (False, ())


@pytest.mark.slow
def test_planning_never_does(arrays) -> None:
    plan_training(arrays(), MODEL, seconds=0.5, set={"execution.compile": "off"})
    assert (Guard.opened, Guard.peeks) == (False, ())


@pytest.mark.slow
def test_a_sweep_does_when_the_best_is_trained(arrays) -> None:
    pytest.importorskip("optuna")
    swept = sweep(arrays(), {"optim.lr": "1e-3..1e-1"}, MODEL, trials=2, seeds=1, epochs=2, out="sweep", set=PLAIN)
    assert swept.metrics["test"]["n"] == 40
    assert (Guard.opened, Guard.peeks) == (True, ())


@pytest.mark.slow
def test_cross_validation_leaves_a_given_one_alone(arrays) -> None:
    train(arrays(), MODEL, epochs=1, cv="2x1", out="cv", set=PLAIN)
    assert (Guard.opened, Guard.peeks) == (False, ())


@pytest.mark.slow
def test_nothing_but_its_own_figures_depends_on_it(arrays) -> None:
    """All that is decided and learned is the same to the bit where other samples are tested."""
    runs = [train(arrays(other=other), MODEL, epochs=3, out=f"run-{other}", set=PLAIN) for other in (False, True)]
    weights = [torch.load(run.path / "checkpoints" / "last.pt", weights_only=True)["model"] for run in runs]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())
    configs = [(run.path / "config.yaml").read_text().splitlines() for run in runs]
    differing = [one for one, other in zip(*configs, strict=True) if one != other]
    assert all(line.split(":")[0].strip() in ("source", "fingerprint") for line in differing)
    notes = [[json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()] for run in runs]
    told = [[event["text"] for event in events if event["event"] == "note"] for events in notes]
    assert told[0] == told[1]
    figures = [{k: run.metrics[k] for k in ("val", "train", "best_epoch", "inference", "params")} for run in runs]
    assert figures[0] == figures[1]
    assert runs[0].metrics["test"] != runs[1].metrics["test"]


def _validates_on_test(monkeypatch: pytest.MonkeyPatch) -> None:
    close = loop.close_epoch
    monkeypatch.setattr(
        loop,
        "close_epoch",
        lambda setup: close(replace(setup, splits=setup.splits | {"val": setup.splits["test"]})),
    )


def _decides_by_test(monkeypatch: pytest.MonkeyPatch) -> None:
    gather = facts.gather_facts

    def peeking(data: Dataset, *rest: Any, **named: Any) -> Any:
        return gather(replace(data, splits=data.splits | {"train": data.splits["test"]}), *rest, **named)

    monkeypatch.setattr(prepare, "gather_facts", peeking)


def _standardizes_by_test(monkeypatch: pytest.MonkeyPatch) -> None:
    measure, initialize = prepare.measure_normalization, prepare._initialize

    def peeking(config: Any, data: Dataset, *rest: Any, **named: Any) -> Any:
        monkeypatch.setattr(prepare, "measure_normalization", lambda _, **named: measure(data.splits["test"], **named))
        return initialize(config, data, *rest, **named)

    monkeypatch.setattr(prepare, "_initialize", peeking)


@pytest.mark.parametrize("bug", [_validates_on_test, _decides_by_test, _standardizes_by_test])
def test_a_bug_that_looks_earlier_is_noticed(bug: Callable[..., None], arrays, monkeypatch) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError, match="before the end"):
        train(arrays(), MODEL, epochs=1, out="run", set=PLAIN)
    assert Guard.peeks
