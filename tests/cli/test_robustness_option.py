"""`striate eval RUN --robustness` as a user runs it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

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


@pytest.mark.slow
def test_of_other_data_both_measurements_lie_in_the_run(run, tmp_path, capsys):
    data = load_digits()
    np.savez(tmp_path / "few.npz", x=data.images[:40].astype(np.uint8) * 15, y=data.target[:40])
    for words in ((), ("--robustness",)):
        assert main(["eval", str(run), str(tmp_path / "few.npz"), *words]) in (0, 1)
    assert "written:" in capsys.readouterr().err
    written = {path.name for path in (run / "evaluations").iterdir()}
    assert written == {f"few-all{end}" for end in (".json", ".txt", "-robustness.json", "-robustness.png")}
    assert json.loads((run / "evaluations" / "few-all.json").read_text())["n"] == 40
    assert json.loads((run / "evaluations" / "few-all-robustness.json").read_text())["data"] == "few"
    assert main(["eval", str(run), str(tmp_path / "few.npz")]) in (0, 1)
    assert {path.name for path in (run / "evaluations").iterdir()} == written


@pytest.mark.slow
def test_other_names_of_columns_are_taken_by_eval_too(run, tmp_path, capsys):
    for number in range(4):
        Image.new("L", (8, 8), 60 * number).save(tmp_path / f"{number}.png")
    table = tmp_path / "t.csv"
    table.write_text("file,digit\n" + "".join(f"{number}.png,{number}\n" for number in range(4)))
    assert main(["eval", str(run), str(table)]) == 2
    assert "--data.names path=file,label=digit" in capsys.readouterr().err.replace("'", "")
    assert main(["eval", str(run), str(table), "--data.names", "path=file,label=digit"]) == 0
    assert "4 samples" in capsys.readouterr().out


def test_names_that_name_nothing_are_refused(run, tmp_path, capsys):
    source = "digits"
    for words, said in (
        (["--data.names", "path=nope"], "leave out --data.names"),
        ([source, "--data.names", "path=nope"], "data.names"),
        ([source, "--robustness", "--data.names", "path=nope"], "--robustness with --data.names"),
    ):
        assert main(["eval", str(run), *words]) == 2
        assert said in capsys.readouterr().err


def test_what_it_cannot_do_is_refused(run, tmp_path, capsys):
    assert main(["eval", str(run), "--robustness", "--learning-curve"]) == 2
    assert "--robustness with --learning-curve" in capsys.readouterr().err
    table = tmp_path / "iris"
    assert main(["train", "iris", "--out", str(table), *QUICK]) == 0
    assert main(["eval", str(table), "--robustness"]) == 2
    assert "images, whose pixels are changed" in capsys.readouterr().err
    assert not (table / "robustness.json").exists()
