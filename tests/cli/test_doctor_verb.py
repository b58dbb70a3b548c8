"""`striate doctor`: what it prints, its exit codes, and that it writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from striate.cli import main

SMALL = ["--model", "conv(4,3) bn relu pool(2) fc(10)", "--batch", "64"]


def doctor(capsys, *words: str) -> tuple[int, str, str]:
    code = main(["doctor", *words])
    return code, *capsys.readouterr()


@pytest.mark.slow
def test_a_sound_regression_is_healthy(capsys) -> None:
    """Its targets are learned in units of their own."""
    code, out, _ = doctor(capsys, "boston", "--seed", "1")
    assert code == 0
    assert "Healthy: no error and no warning" in out, out


@pytest.mark.slow
def test_a_sound_training_is_healthy(capsys) -> None:
    code, out, _ = doctor(capsys, "digits", *SMALL, "--seconds", "30")
    assert code == 0, out
    assert "Healthy: no error and no warning" in out
    assert all(len(line) <= 80 for line in out.splitlines()), out
    assert not list(Path().iterdir())


@pytest.mark.slow
def test_a_rate_far_too_high_is_named_with_the_option_that_mends_it(capsys) -> None:
    fields = ["--optim.name", "sgd", "--optim.lr", "3000", "--schedule.name", "constant"]
    code, out, _ = doctor(capsys, "digits", *SMALL, *fields, "--json")
    document = json.loads(out)
    assert code == 1
    [first] = [finding for finding in document["findings"][:2] if finding["code"] == "optim.lr-too-high"]
    assert "--optim.lr " in first["remedy"]
    assert list(first) == [*("code", "severity", "where", "measured", "threshold", "why", "remedy"), "follows"]


@pytest.mark.slow
def test_a_finished_run_is_examined(capsys, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert main(["train", "digits", *SMALL, "--epochs", "2", "--out", str(run)]) == 0
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    capsys.readouterr()
    code, out, _ = doctor(capsys, str(run), "--json")
    assert code == 0, out
    document = json.loads(out)
    assert document["run"] == str(run)
    assert document["subject"].startswith(f"{run}, 2 epochs trained: conv(4,3)")
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_the_page_is_written_once(capsys, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ["digits", *SMALL, "--seconds", "0.5", "--html", str(page)]
    assert doctor(capsys, *words)[0] == 0
    assert "<h1>Diagnosis</h1>" in page.read_text()
    code, _, err = doctor(capsys, *words)
    assert code == 2
    assert str(page) in err
    assert doctor(capsys, *words, "--force")[0] == 0


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["digits", "--seconds", "0"], "more than 0"),
        (["no-such-set"], "no-such-set"),
        (["digits", "--optim.lrr", "1"], "optim.lr"),
        (["digits", "--model", "perceptron", "--optim.name", "local-rule"], "--optim.name"),
    ],
)
def test_what_cannot_be_done_ends_with_2(words: list[str], said: str, capsys) -> None:
    code, out, err = doctor(capsys, *words)
    assert (code, out) == (2, "")
    assert said in err
