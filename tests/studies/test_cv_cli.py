"""`striate train --cv`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_folds import rows, table

from striate.cli import main
from striate.studies.cross_validation import run_cross_validation as cross_validation

QUICK = ("--model", "fc(6) relu fc(3)", "--epochs", "1")


@pytest.fixture(autouse=True)
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pictures and page, which take most of the time and have tests of their own."""
    monkeypatch.setattr(cross_validation, "write_cv_report", lambda *_: None)


def test_a_line_a_fold_on_stderr_and_the_summary_on_stdout(capsys) -> None:
    assert main(["train", table(), "--cv", "3x2", "--out", "cv", *QUICK]) == 0
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("repeat ")]
    assert len(lines) == 6
    assert lines[0].startswith("repeat 1/2 fold 1/3  accuracy ")
    assert "of 20 held out" in lines[0]
    assert "Cross-validation: each of 60 samples is held out 2 times" in err
    assert "over 6 held-out folds of 20 (mean ± standard deviation between folds)" in out
    assert "the two repeats have" in out
    assert "striate train --config cv/config.yaml --cv null --out cv-final" in out


def test_json_is_one_document_the_content_of_metrics_json(capsys) -> None:
    assert main(["train", table(), "--cv", "2", "--out", "cv", "--json", *QUICK]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(Path("cv/metrics.json").read_text())
    assert (document["cv"]["folds"], document["cv"]["repeats"]) == (2, 1)
    assert document["cv"]["per_repeat"]["std"]["accuracy"] is None


def test_the_default_place_says_what_it_is(capsys) -> None:
    assert main(["train", table(), "--cv", "2", *QUICK]) == 0
    assert Path("runs/t-fc-6-relu-fc-3-cv-1/cv.csv").exists()


@pytest.mark.slow
def test_config_yaml_repeats_it_and_null_turns_it_off(capsys) -> None:
    assert main(["train", table(), "--cv", "2x2", "--out", "one", *QUICK]) == 0
    assert main(["train", "--config", "one/config.yaml", "--out", "two"]) == 0
    assert rows("one") == rows("two")
    assert main(["train", "--config", "one/config.yaml", "--cv", "null", "--out", "final"]) == 0
    assert Path("final/checkpoints/best.pt").exists()
    assert "cv" not in json.loads(Path("final/metrics.json").read_text())


def test_resume_of_a_finished_study_reads_it(capsys) -> None:
    assert main(["train", table(), "--cv", "2", "--out", "cv", *QUICK]) == 0
    assert main(["train", "--resume", "cv"]) == 0
    out, err = capsys.readouterr()
    assert "finished; its 2 folds were read" in err
    assert "accuracy" in out


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cv", "1x5"], "1 fold"),
        (["--cv", "5x0"], "0 repeats"),
        (["--cv", "many"], "FOLDSxREPEATS"),
        (["--cv", "21"], "20 distinct samples"),
        (["--cv", "5", "--epochs", "1", "--minutes", "1"], "either of them"),
        (["--cv", "5", "--model", "fc(7) relu fc(9)"], "3 outputs"),
        (["--cv", "5", "--set", "cv=6"], "one value"),
        (["--cv", "5", "--augment.shift", "2"], "images"),
    ],
)
def test_a_wrong_request_is_answered_and_leaves_nothing(capsys, words: list[str], said: str) -> None:
    data = table()
    before = set(Path().rglob("*"))
    assert main(["train", data, *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert "Traceback" not in out + err
    assert set(Path().rglob("*")) == before


def test_resume_takes_no_cv_beside_it(capsys) -> None:
    assert main(["train", "--resume", "somewhere", "--cv", "5"]) == 2
    assert "--resume RUN alone" in capsys.readouterr().err


def test_verbs_say_that_there_is_no_network(capsys) -> None:
    assert main(["train", table(), "--cv", "2", "--out", "cv", *QUICK]) == 0
    for words in (
        ["eval", "cv"],
        ["predict", "cv", "x.png"],
        ["verify", "cv"],
        ["summary", "cv"],
        ["serve", "cv"],
        ["train", table(), "--model", "cv"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "saves no network" in said
        assert "--cv null" in said


def test_a_class_with_too_few_samples_is_named(capsys) -> None:
    y = np.array(["common"] * 57 + ["rare"] * 3)
    assert main(["train", table(y=y), "--cv", "5"]) == 2
    err = capsys.readouterr().err
    assert "the class rare" in err
    assert "--cv 3x1" in err


def test_a_whole_number_in_a_file_is_refused_with_what_to_write(capsys) -> None:
    Path("c.yaml").write_text(f"data: {{source: {table()}}}\ncv: 5\n")
    assert main(["train", "--config", "c.yaml"]) == 2
    assert "remedy:   cv: 5x5" in capsys.readouterr().err
