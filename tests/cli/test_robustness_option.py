"""`striate eval RUN --robustness` as a user runs it."""

from __future__ import annotations

import json

import pytest
from PIL import Image

import striate
from striate.cli.main import main

QUICK = ["--epochs", "1", "--execution.plan", "plain"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("tried") / "digits"
    assert main(["train", "digits", "--out", str(out), "--model", "conv(4,3) relu pool(2) fc(10)", *QUICK]) == 0
    return out


@pytest.mark.slow
def test_it_is_printed_and_written(run, capsys):
    before = {path.name for path in run.iterdir()}
    capsys.readouterr()
    assert main(["eval", str(run), "--robustness", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert document == json.loads((run / "robustness.json").read_text())
    assert {path.name for path in run.iterdir()} == before | {"robustness.json"}
    assert document["accuracy"] == json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    assert "rotation (2 of 11)" in err
    with Image.open(run / "plots" / "robustness.png") as picture:
        assert picture.width > 800
    found = striate.robustness(run, samples=60)
    assert (found.n, found.of) == (60, document["of"])


def test_what_it_cannot_do_is_refused(run, tmp_path, capsys):
    assert main(["eval", str(run), "digits", "--robustness"]) == 2
    assert f"striate eval {run} --robustness" in capsys.readouterr().err
    assert main(["eval", str(run), "--robustness", "--learning-curve"]) == 2
    assert "--robustness with --learning-curve" in capsys.readouterr().err
    table = tmp_path / "iris"
    assert main(["train", "iris", "--out", str(table), *QUICK]) == 0
    assert main(["eval", str(table), "--robustness"]) == 2
    assert "images: what is changed are their pixels" in capsys.readouterr().err
    assert not (table / "robustness.json").exists()
