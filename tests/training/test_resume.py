"""Whenever a run is interrupted, going on ends with the same bits as never having stopped."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import pytest
import torch
from saved_runs import train_quietly
from short_runs import events_of

from quick import few_quick
from striate.api import resume
from striate.cli.main import main
from striate.errors import DataError, RunError, TrainingError
from striate.runs.checkpoint import load_checkpoint, save_checkpoint
from striate.runs.directory import RunDirectory
from striate.runs.events import already_finished
from striate.training import session
from striate.training.config import Config
from striate.training.events import StepDone
from striate.training.interruption import Interrupted
from striate.training.prepare import prepare
from striate.training.request import merge_request, read_config
from striate.training.saving import Saver

NETWORK = "conv(4,3) bn relu dropout(0.3) pool(2) fc(3)"


def config_for(data: Path, **fields: object) -> Config:
    base = {"model.name": NETWORK, "batch": 8, "augment.shift": 2}
    return merge_request(read_config(None), data=str(data), epochs=4, fields=base | fields)


@pytest.fixture(scope="module")
def whole(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train_quietly(config_for(same_photos), run)
    return run


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / f"{name}.pt")["model"]


def assert_same_run(one: Path, two: Path) -> None:
    for name in ("last", "best"):
        a, b = weights(one, name), weights(two, name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a), name
    timed = {"seconds", "images_per_second", "data_wait", "augment_share"}
    rows = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (one, two)]
    assert len(rows[0]) == 4
    strip = [[{k: v for k, v in row.items() if k not in timed} for row in table] for table in rows]
    assert strip[0] == strip[1]
    metrics = [json.loads((run / "metrics.json").read_text()) for run in (one, two)]
    assert [m["test"] for m in metrics[:1]] == [m["test"] for m in metrics[1:]]


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send ourselves a signal in the middle of the given step, as a terminal or the system would."""
    original = session.training_events

    def events(*arguments: object):
        for event in original(*arguments):
            if isinstance(event, StepDone) and event.step == step:
                os.kill(os.getpid(), number)
            yield event

    monkeypatch.setattr(session, "training_events", events)


@pytest.mark.each_nth(2)
@pytest.mark.parametrize(
    ("step", "number"),
    few_quick(
        [(1, signal.SIGINT), (4, signal.SIGTERM), (5, signal.SIGINT), (16, signal.SIGINT)],
        [(4, signal.SIGTERM), (16, signal.SIGINT)],
        unpack=True,
    ),
)
def test_an_interrupted_run_goes_on_bit_for_bit(
    same_photos: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, step: int, number: int
) -> None:
    config = config_for(same_photos)  # 24 training images: 3 steps an epoch, 12 in all, or 4 and 16
    steps = load_checkpoint(whole / "checkpoints/last.pt")["step"]
    with monkeypatch.context() as patch:
        interrupt_at(patch, min(step, steps), number)
        with pytest.raises(Interrupted, match="resume"):
            train_quietly(config, Path("cut"))
    assert not Path("cut/metrics.json").exists()
    torch.manual_seed(999)  # whatever else drew random numbers in between
    resume("cut", quiet=True)
    assert_same_run(whole, Path("cut"))


def test_a_run_killed_before_its_first_checkpoint_starts_over(same_photos, whole, monkeypatch) -> None:
    config = config_for(same_photos)
    with monkeypatch.context() as patch:
        patch.setattr(session, "training_events", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            train_quietly(config, Path("cut"))
    resume("cut", quiet=True)
    assert_same_run(whole, Path("cut"))


def test_a_run_killed_after_a_checkpoint_drops_the_rows_that_the_checkpoint_does_not_know(
    same_photos, whole, monkeypatch
) -> None:
    config = config_for(same_photos)
    monkeypatch.setattr(Saver, "due", lambda *_, **__: True)  # save at every event
    with monkeypatch.context() as patch:
        original = session.save
        saves = []

        def save_twice(*arguments: object) -> None:
            saves.append(1)
            if len(saves) == 12:  # a save an event, three or four steps and an epoch's end each
                raise RuntimeError("killed")
            original(*arguments)

        patch.setattr(session, "save", save_twice)
        with pytest.raises(RuntimeError):
            train_quietly(config, Path("cut"))
    saved = load_checkpoint(Path("cut/checkpoints/last.pt"))
    with Path("cut/metrics.csv").open("a") as file:
        file.write("99,99,nonsense\n")  # a row that the checkpoint does not know
    assert saved["tally"] is not None  # in the middle of an epoch
    resume("cut", quiet=True)
    assert_same_run(whole, Path("cut"))


def test_a_finished_run_is_verified(photos, capsys) -> None:
    train_quietly(config_for(photos()), Path("run"))
    for words in (["--epochs", "2"], []):
        assert main(["train", "--resume", "run", *words]) == (2 if words else 0)
        assert f"striate train --from run --epochs {words[-1] if words else 1}" in " ".join(
            capsys.readouterr().err.split()
        )
    before = Path("run/metrics.json").read_bytes()
    run = resume("run", quiet=True)
    assert run.metrics == json.loads(before)
    path = RunDirectory(Path("run"))
    assert already_finished(path).endswith("its checkpoints are intact")
    saved = path.best.read_bytes()
    place = saved.index(b"FB") + 10  # padding, which no checksum covers
    path.best.write_bytes(saved[:place] + b"x" + saved[place + 1 :])
    resume("run", quiet=True)
    assert already_finished(path).endswith("can be read, but best.pt changed since: striate verify run")
    Path("run/checkpoints/last.pt").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(RunError, match="damaged"):
        resume("run", quiet=True)


def test_a_run_does_not_go_on_with_other_data(photos, monkeypatch) -> None:
    folder = photos()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGINT)
        with pytest.raises(Interrupted):
            train_quietly(config_for(folder), Path("run"))
    next(iter((folder / "red").iterdir())).unlink()
    with pytest.raises(DataError, match="fingerprint"):
        resume("run", quiet=True)


@pytest.mark.slow
def test_config_yaml_trained_again_gives_the_same_figures(photos) -> None:
    train_quietly(config_for(photos(), seed=7), Path("one"))
    train_quietly(merge_request(read_config("one/config.yaml"), fields={}), Path("two"))
    assert Path("one/config.yaml").read_text() == Path("two/config.yaml").read_text()
    assert_same_run(Path("one"), Path("two"))


@pytest.mark.slow
def test_training_leaves_the_callers_random_state_and_threads_alone(photos) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train_quietly(config_for(photos(), **{"execution.threads": 2}), Path("run"))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_a_loss_that_is_not_a_number_stops_with_the_place_and_a_remedy(photos) -> None:
    config = config_for(photos(), **{"optim.name": "sgd", "optim.lr": 1e30, "model.name": "conv(4,3) relu fc(3)"})
    with pytest.raises(TrainingError) as caught:
        train_quietly(config, Path("run"))
    assert "step" in caught.value.where
    assert "--lr" in caught.value.remedy
    assert "not finite" in caught.value.got or "first in the output" in caught.value.got
    assert not Path("run/metrics.json").exists()
    assert '"event": "non-finite"' in Path("run/events.jsonl").read_text()


def test_a_hinge_loss_of_a_dead_network_is_noticed(photos) -> None:
    fields = {"model.name": "conv(8,3) relu fc(8) relu fc(3)", "task.loss": "hinge", "optim.name": "sgd"}
    config = config_for(photos(), **fields, **{"optim.lr": 1e29, "schedule.name": "constant"})
    with pytest.raises(TrainingError, match="--lr"):
        train_quietly(config, Path("run"))


def test_no_checkpoint_ever_holds_a_network_that_is_not_finite(photos, monkeypatch) -> None:
    monkeypatch.setattr(Saver, "due", lambda *_, **__: True)
    fields = {"optim.name": "sgd", "optim.lr": 1e25, "schedule.name": "constant", "batch": 64}
    with pytest.raises(TrainingError):
        train_quietly(config_for(photos(), **fields), Path("run"))
    for file in Path("run/checkpoints").iterdir():
        assert all(torch.isfinite(t).all() for t in load_checkpoint(file)["model"].values())


@pytest.mark.each_nth(2)
@pytest.mark.parametrize("missing", [["env.json"], ["env.json", "split.csv", "classes.txt", "events.jsonl"]])
def test_a_run_killed_among_its_first_files_goes_on(photos, monkeypatch, missing: list[str]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(session, "training_events", lambda *_: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError):
            train_quietly(config_for(photos()), Path("run"))
    for name in missing:
        Path("run", name).unlink()
    resume("run", quiet=True)
    assert {p.name for p in Path("run").iterdir()} >= {*missing, "metrics.json", "report.html"}


def test_an_interrupt_while_finishing_says_how_to_go_on(photos, monkeypatch) -> None:
    from striate.api import training as api

    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    with monkeypatch.context() as patch:
        patch.setattr(api, "finish_run", interrupted)
        with pytest.raises(Interrupted, match="--resume run"):
            train_quietly(config_for(photos()), Path("run"))
    resume("run", quiet=True)
    assert Path("run/metrics.json").exists()


@pytest.mark.slow
def test_the_reason_for_the_network_survives_a_resume(photos, monkeypatch) -> None:
    config = config_for(photos(), **{"model.name": "auto"})
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2, signal.SIGINT)
        with pytest.raises(Interrupted):
            train_quietly(config, Path("run"))
    resume("run", quiet=True)
    assert "images in color" in Path("run/report.html").read_text()


LAZY = """
from torch import nn

def build():
    return nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU(), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3))
"""


def test_a_network_with_lazy_layers_goes_on_bit_for_bit(same_photos) -> None:
    Path("lazy.py").write_text(LAZY)
    options = {"optim.ema": 0.5, "auxiliary.rotation": 0.3, "regularize.sparsity": 0.01}
    config = config_for(same_photos, **{"model.name": "lazy.py:build", **options})
    whole = prepare(config)
    for event in events_of(whole):
        if isinstance(event, StepDone) and event.step == 5:
            save_checkpoint(Path("cut.pt"), whole.checkpoint())
    cut = prepare(whole.config, checkpoint=Path("cut.pt"))
    cut.state.restore(load_checkpoint(Path("cut.pt")))
    for _ in events_of(cut):
        pass
    assert whole.state.step == cut.state.step > 5
    one, two = whole.state.to_dict(), cut.state.to_dict()
    for kind in ("model", "ema", "auxiliary"):
        assert all(torch.equal(one[kind][name], two[kind][name]) for name in one[kind])
