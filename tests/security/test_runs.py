"""Run directories from strangers: whatever their files hold, the answer is an answer or an error in our form."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from quick import few_quick
from striate.runs.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def run(small_run) -> Path:
    shutil.copytree(small_run, "run")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    return Path("run")


def changed(**changes: object):
    """Checkpoint contents with parts replaced, by their path."""

    def apply(content: dict) -> None:
        for path, value in changes.items():
            *sections, last = path.split("__")
            place = content
            for section in sections:
                place = place[section]
            place[last] = value

    return apply


def test_checkpoints_that_a_finished_run_lacks_are_named(striate, run) -> None:
    again = "striate train --config run/config.yaml --out run-again"
    (run / "checkpoints" / "best.pt").unlink()
    for verb in (("train", "--resume", run), ("predict", run, "x.png")):
        striate(*verb).refused("run/checkpoints/best.pt", "missing, though the run is finished", "last.pt", again)
    shutil.rmtree(run / "checkpoints")
    for verb in (("train", "--resume", run), ("predict", run, "x.png"), ("verify", run)):
        striate(*verb).refused(".pt\n  got:      missing, though the run is finished", again)
    (run / "metrics.json").unlink()
    striate("predict", run, "x.png").refused("a run without a checkpoint yet", "striate train --resume run")
    told = striate("train", "--resume", run)
    assert told.code == 0, told.err
    assert "starting over" in told.err


CONTENTS = {
    "no-network": changed(network=None),
    "number-as-name": changed(network__name=7),
    "list-as-name": changed(network__name=["fc(2)"]),
    "long-name": changed(network__name="relu " * 100_000),
    "bomb-as-name": changed(network__name="1000000*[fc(1000000)]"),
    "huge-network": changed(network__name="fc(1000000) fc(1000000) fc(2)"),
    "code-as-name": changed(network__name="/nowhere/net.py:build"),
    "itself-as-name": changed(network__name="run"),
    "huge-shape": changed(network__input_shape=[1, 1_000_000, 1_000_000]),
    "text-as-shape": changed(network__input_shape="8x8"),
    "negative-shape": changed(network__input_shape=[1, -8, 8]),
    "huge-preparation": changed(preparation__input_shape=[1, 1_000_000, 1_000_000]),
    "text-as-preparation": changed(preparation__input_shape="abc"),
    "kind": changed(preparation__kind="nothing"),
    "fit": changed(preparation__fit="__import__('os')"),
    "no-pixels": changed(preparation__max_pixels=-1),
    "more-of-preparation": changed(preparation__other=1),
    "normalization": changed(normalization__mean=["a"]),
    "long-normalization": changed(normalization__mean=[0.0] * 1000, normalization__std=[1.0] * 1000),
    "text-as-normalization": changed(normalization="x"),
    "task": changed(task__name="os.system"),
    "text-as-task": changed(task="classify"),
    "no-classes": changed(task__classes=[], classes=[]),
    "number-as-classes": changed(task__classes=3, classes=3),
    "many-classes": changed(task__classes=["a"] * 200_000),
    "nested-classes": changed(task__classes=[["a"], ["b"]], classes=[["a"], ["b"]]),
    "views": changed(views="__class__"),
    "list-as-views": changed(views=["none"]),
    "no-weights": changed(model={}, ema=None),
    "text-as-weights": changed(model="x", ema=None),
    "numbers-as-weights": changed(model={"1.weight": 3}, ema=None),
    "list-as-weights": changed(model=[torch.zeros(2)], ema=None),
    "not-finite": changed(model={"1.weight": torch.full((2, 64), float("nan")), "1.bias": torch.zeros(2)}, ema=None),
    "averages": changed(ema="x"),
}
COMMANDS = [("predict", "run", "x.png"), ("eval", "run"), ("summary", "run"), ("train", "--resume", "run")]


@pytest.mark.each_nth(5)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_checkpoint_of_strange_content(striate, run, small_run, name) -> None:
    for file in ("best.pt", "last.pt"):
        path = run / "checkpoints" / file
        content = load_checkpoint(path)
        content.pop("format")
        CONTENTS[name](content)
        save_checkpoint(path, content)
    data = small_run.parent / "data"
    for words in (*COMMANDS[:3], ("train", data, "--epochs", "1", "--model", "./run/checkpoints/last.pt")):
        told = striate(*words)
        if told.code:
            told.refused()
        assert len(told.err) < 5000, words


FILES = ["config.yaml", "metrics.json", "classes.txt", "split.csv", "seen.txt", "events.jsonl", "env.json"]
FILES += ["plan.json", "signal.json", "forecast.json", "metrics.csv", "checkpoints/best.pt", "checkpoints/last.pt"]
HARM = {
    "empty": b"",
    "zeros": bytes(1000),
    "nested": b"[" * 100_000,
    "nested-objects": b'{"a":' * 100_000,
    "not-text": b"\xff\xfe\x00",
    "number": b"7",
    "list": b"[1, 2]",
    "digits": b"9" * 100_000,
    "not-finite": b"NaN",
    "escape": b'{"event": "note", "text": "\\u001b[2J"}\n',
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harms", [("nested",), pytest.param(tuple(HARM), marks=pytest.mark.slow)], ids=len)
def test_a_file_of_a_run_that_holds_something_else(striate, small_run, file, harms) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save("x.png")
    for harm in harms:
        shutil.rmtree("run", ignore_errors=True)
        shutil.copytree(small_run, "run")
        (Path("run") / file).write_bytes(HARM[harm])
        for words in COMMANDS if len(harms) > 1 else COMMANDS[:2]:
            told = striate(*words)
            if told.code not in (0, 1):
                told.refused()
            assert "\x1b" not in told.err + told.out, (words, harm)
            assert len(told.err) < 5000, (words, harm)


@pytest.mark.slow
@pytest.mark.parametrize("file", few_quick(["config.yaml", "checkpoints/best.pt"], ["checkpoints/best.pt"]))
def test_a_file_of_a_run_that_is_a_pipe_is_not_waited_for(measured, run, file) -> None:
    (run / file).unlink()
    os.mkfifo(run / file)
    for told in measured(("predict", "run", "x.png"), ("eval", "run"), ("summary", "run")):
        if told.code:
            told.refused()


def test_nothing_of_the_files_beside_is_run(striate, run) -> None:
    for name in ("sitecustomize.py", "conftest.py", "torch.py", "net.py"):
        Path(name).write_text("raise SystemExit(99)")
        (run / name).write_text("raise SystemExit(99)")
    assert striate("predict", "run", "x.png").code == 0


def test_a_checkpoint_with_members_that_lead_out_writes_nothing(striate, run) -> None:
    path = run / "checkpoints" / "best.pt"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../out", b"x")
        archive.writestr("/tmp/striate-out", b"x")
    before = sorted(Path().rglob("*"))
    striate("predict", "run", "x.png")
    assert sorted(Path().rglob("*")) == before
    assert not Path("/tmp/striate-out").exists()
