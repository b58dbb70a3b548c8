"""Options in the files of a run: checkpoints, metrics, and going on bit for bit with everything on at once."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from short_runs import asked_for

import striate
from quick import few_quick
from striate.api import resume, train_config
from striate.api import training as api
from striate.runs.checkpoint import load_checkpoint
from striate.runs.directory import RunDirectory, create_run
from striate.training.config import Config
from striate.training.events import Event, StepDone
from striate.training.execution import execution_settings
from striate.training.first_files import write_first_files
from striate.training.prepare import prepare
from striate.training.saving import Saver
from striate.training.session import restore, run_training

EVERYTHING = {
    "model__name": "conv(4,3) bn relu pool(2) dropout(0.2) fc(8) relu fc(10)",
    "batch": 100,
    "optim__ema": 0.9,
    "optim__clip": 1.0,
    "augment__shift": 1,
    "augment__mixup": 0.4,
    "augment__cutmix": 1.0,
    "augment__noise": 0.1,
    "auxiliary__rotation": 0.5,
    "auxiliary__layers": ["relu1", "fc1"],
    "regularize__l1": 1e-4,
    "regularize__l2": 1e-4,
    "regularize__sparsity": 0.01,
    "execution__micro_batch": 30,
    "execution__plan": "plain",  # a starved machine would plan one of two runs otherwise
    "budget__patience": 3,
    "keep": "best",
}


class Killed(Exception):
    """As if the power had failed."""


def without_report(config: Config, name: str, stop_after: int | None = None) -> RunDirectory:
    """Train in a run directory, or go on there; killed before another step than so many is saved."""
    prepared = prepare(config)
    run = RunDirectory(Path(name)) if Path(name).exists() else create_run(Path(name), "test")
    if not restore(run, prepared, run.last if run.last.exists() else None):
        write_first_files(run, prepared)

    def reader(event: Event) -> None:
        if stop_after is not None and isinstance(event, StepDone) and event.step > stop_after:
            raise Killed

    with execution_settings(prepared.config):
        run_training(run, prepared, [reader])
    return run


TIMES = {"seconds", "epoch_seconds", "epoch_wait", "epoch_augment", "elapsed", "data_wait", "augment_share"}
TIMES |= {"trace"}  # of the steps since the checkpoint before, whenever that was


def assert_equal(a: object, b: object, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a.keys() - TIMES:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for k, (one, two) in enumerate(zip(a, b, strict=True)):
            assert_equal(one, two, f"{where}[{k}]")
    else:
        assert a == b, where


@pytest.mark.slow
@pytest.mark.parametrize(  # in the middle of the first epoch, and of the second; 13 steps each
    ("step", "optimizer"),
    few_quick(
        [(5, "muon"), (20, "muon"), (20, "lamb"), (5, "lars"), (20, "adamw"), (5, "sgd")], [(20, "muon")], unpack=True
    ),
)
def test_a_run_with_everything_on_goes_on_bit_for_bit(monkeypatch, step: int, optimizer: str) -> None:
    config = asked_for(epochs=2, **EVERYTHING, optim__name=optimizer)
    whole = without_report(config, "whole")
    monkeypatch.setattr(Saver, "due", lambda *_, **__: True)
    with pytest.raises(Killed):
        without_report(config, "cut", stop_after=step)
    saved = load_checkpoint(Path("cut/checkpoints/last.pt"))
    assert saved["step"] == step
    assert saved["tally"] is not None
    torch.manual_seed(99)
    cut = without_report(config, "cut")
    for name in ("last", "best"):
        one, two = (load_checkpoint(run.path / "checkpoints" / f"{name}.pt") for run in (whole, cut))
        assert {"model", "ema"} <= one.keys()
        assert ("auxiliary" in one) == ("optimizer" in one) == (name == "last")
        assert_equal(one, two, name)


def train_quietly(config: Config, out: str) -> striate.Run:
    return train_config(config, out=Path(out), console=Console(stderr=True), quiet=True)


@pytest.mark.slow
def test_the_files_of_a_run_with_everything_on() -> None:
    run = train_quietly(asked_for(epochs=2, **EVERYTHING, optim__name="adamw"), "run")
    rows = list(csv.DictReader((run.path / "metrics.csv").read_text().splitlines()))
    followed = {"loss", "accuracy", "relu1_accuracy", "fc1_accuracy", "rotation_accuracy", "hidden_sparsity"}
    columns = {f"{part}_{name}" for part in ("train", "val") for name in followed}
    timed = {"seconds", "images_per_second", "data_wait", "augment_share"}
    assert rows[0].keys() == columns | timed | {"epoch", "step", "lr"}
    for row in rows:
        assert 0 < float(row["data_wait"]) < 1
        assert 0 < float(row["augment_share"]) < 1
    assert all(0 <= float(row["val_hidden_sparsity"]) <= 1 for row in rows)

    for split in ("train", "val", "test"):
        assert 0 < run.metrics[split]["hidden_sparsity"] < 1
    best = rows[run.metrics["best_epoch"] - 1]
    assert run.metrics["val"]["hidden_sparsity"] == pytest.approx(float(best["val_hidden_sparsity"]), abs=1e-6)
    assert run.metrics["val"]["accuracy"] == pytest.approx(float(best["val_accuracy"]))
    assert "silent units" in run.report.read_text()

    saved = load_checkpoint(run.path / "checkpoints" / "best.pt")
    answering = striate.load(run.path).module.state_dict()
    assert all(torch.equal(answering[name], saved["ema"][name]) for name in answering)
    assert any(not torch.equal(answering[name], saved["model"][name]) for name in answering)
    assert resume(run.path, quiet=True).metrics == run.metrics


@pytest.mark.slow
def test_a_run_killed_between_its_early_end_and_its_report_is_finished_as_it_was(monkeypatch) -> None:
    fields = {"optim__lr": 0.3, "schedule__name": "constant", "optim__ema": 0, "model__name": "mlp(8)"}
    config = asked_for(epochs=60, budget__patience=2, keep="best", **fields)

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(api, "finish_run", killed)
        with pytest.raises(Killed):
            train_quietly(config, "run")
    before = load_checkpoint(Path("run/checkpoints/last.pt"))
    run = resume("run", quiet=True)
    assert_equal(load_checkpoint(Path("run/checkpoints/last.pt")), before)
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    assert run.metrics["epochs"] == len(rows) < 60
    assert run.metrics["steps"] == int(rows[-1]["step"]) == before["step"]
    assert run.metrics["best_epoch"] == len(rows) - 2
    assert run.metrics["val"]["accuracy"] == pytest.approx(max(float(row["val_accuracy"]) for row in rows))
    told = [json.loads(line) for line in Path("run/events.jsonl").read_text().splitlines()]
    assert [e["event"] for e in told].count("epoch") == len(rows)
    assert f"training ended after epoch {len(rows)} of 60" in run.report.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("keep", few_quick(["best", "last"], ["best"]))
def test_the_kept_epoch_is_the_one_that_is_measured(drawing: None, keep: str) -> None:
    fields = {"optim__lr": 0.3, "schedule__name": "constant", "optim__ema": 0, "model__name": "mlp(8)"}
    run = train_quietly(asked_for(epochs=6, keep=keep, **fields), "run")
    rows = list(csv.DictReader(Path("run/metrics.csv").read_text().splitlines()))
    scores = [(float(row["val_accuracy"]), -float(row["val_loss"])) for row in rows]
    kept = 6 if keep == "last" else scores.index(max(scores)) + 1
    assert run.metrics["best_epoch"] == kept
    assert run.metrics["val"]["accuracy"] == pytest.approx(float(rows[kept - 1]["val_accuracy"]))
    last, best = (load_checkpoint(Path(f"run/checkpoints/{name}.pt"))["model"] for name in ("last", "best"))
    same = all(torch.equal(last[name], best[name]) for name in last)
    assert same == (kept == 6)
    assert ("best epoch" in run.report.read_text()) == (keep == "best")
