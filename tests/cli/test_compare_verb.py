"""`striate compare` as a user runs it."""

from __future__ import annotations

import json
import shlex
import shutil

import pytest

import striate
from striate.cli.main import main

BASE = ["--epochs", "2", "--execution.plan", "plain"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compared")
    for name, seed, data in (("one", "0", "iris"), ("two", "1", "iris")):
        assert main(["train", data, "--out", str(folder / name), "--seed", seed, *BASE]) == 0
    return folder


def test_two_runs_on_the_same_samples(runs, capsys):
    capsys.readouterr()
    assert main(["compare", str(runs / "one"), str(runs / "two"), "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    measured = [json.loads((runs / name / "metrics.json").read_text()) for name in ("one", "two")]
    assert [entry["value"] for entry in document["runs"]] == [m["test"]["accuracy"] for m in measured]
    assert [entry["params"] for entry in document["runs"]] == [m["params"] for m in measured]
    assert document["n"] == measured[0]["test"]["n"]
    assert len(document["pairs"]) == 1
    assert "another seed" in err
    assert main(["compare", str(runs / "one"), str(runs / "two"), "--split", "val"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("iris, val split: ")
    assert "slightly optimistic" in err


def test_a_run_without_kept_answers_is_asked(runs, tmp_path):
    asked = tmp_path / "one"
    shutil.copytree(runs / "one", asked)
    shutil.rmtree(asked / "predictions", ignore_errors=True)
    (asked / "metrics.json").unlink()  # as of a run that was interrupted
    found = striate.compare([asked, runs / "one"])
    assert any(f"{asked} is not finished" in note and "--resume" in note for note in found.notes)
    assert not any(f"{runs / 'one'} is not finished" in note for note in found.notes)
    assert found.pairs[0].difference.differing == 0
    assert found.runs[0].value == found.runs[1].value


@pytest.mark.parametrize(
    ("words", "got"),
    [((), "no run"), (("one",), "only "), (("one", "one"), "twice"), (("one", "none"), "no such folder")],
)
def test_what_cannot_be_compared(runs, capsys, words, got):
    assert main(["compare", *(str(runs / word) for word in words)]) == 2
    err = capsys.readouterr().err
    assert got in err
    if got == "only ":
        assert f"striate compare {shlex.quote(str(runs / 'one'))} OTHER_RUN" in err


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "strange",
    [
        {"test": {}},
        {"test": 5},
        {"test": {"accuracy": "hello"}},
        {"data": ["x"]},
        {"params": "x", "macs": True, "train_seconds": [1], "images_per_second": -1, "device": {}},
        {"params": float("nan"), "macs": 10**400, "train_seconds": float("inf")},
    ],
)
def test_costs_of_strange_content_are_left_out(runs, tmp_path, capsys, strange):
    other = tmp_path / "two"
    shutil.copytree(runs / "two", other)
    metrics = json.loads((other / "metrics.json").read_text())
    (other / "metrics.json").write_text(json.dumps(metrics | strange))
    (other / "events.jsonl").write_text("")  # which would say that it is not what was written
    (other / "environment.json").write_text('{"processor": ["x"]}')
    capsys.readouterr()
    assert main(["compare", str(other), str(runs / "one")]) == 0
    assert main(["compare", str(other), str(runs / "one"), "--json"]) == 0
    out = capsys.readouterr().out
    found = json.loads(out[out.index("\n{") :])["runs"][0]
    assert found["value"] == metrics["test"]["accuracy"]
    assert all(found[key] is None for key in strange.keys() & found.keys())
