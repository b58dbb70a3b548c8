"""A run that hardly trained says so first, in the terminal and in the report, with a command that mends it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from striate.cli import main
from striate.cli.train import _print_result
from striate.runs.directory import RunDirectory, open_run
from striate.runs.events import append_event
from striate.training.step_losses import read_step_losses

pytestmark = pytest.mark.draws


@pytest.mark.slow
def test_a_run_of_one_pass_opens_with_what_to_do(digits_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((digits_run / "metrics.json").read_text())
    assert [finding["code"] for finding in metrics["findings"]] == ["fit.too-short"]
    _print_result(digits_run, metrics)
    first, remedy, *_ = capsys.readouterr().out.splitlines()
    assert "1 epoch, in" in first
    page = (digits_run / "report.html").read_text()
    assert page.index("1 epoch, in") < page.index("<h2")
    _, _, command = remedy.partition("striate ")
    assert main([*shlex.split(command), "--seed", "1"]) == 0
    longer = json.loads((Path(f"{digits_run}-longer") / "metrics.json").read_text())
    assert longer["epochs"] == 10
    assert all(finding["severity"] == "note" for finding in longer["findings"])


@pytest.mark.slow
def test_curves_of_one_pass_are_drawn_by_step(digits_run: Path) -> None:
    rows = read_step_losses(open_run(digits_run))
    metrics = json.loads((digits_run / "metrics.json").read_text())
    assert 20 <= len(rows) <= 40
    assert rows[-1]["step"] == metrics["steps"]
    assert "loss against the step: train from" in (digits_run / "report.html").read_text()


def test_a_training_that_grew_longer_than_few_epochs_is_drawn_by_epoch(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    append_event(run, "epoch", epoch=1, step=10, by_step=[[10, 2.0, 0.1]])
    assert read_step_losses(run) == [{"step": 10, "train_loss": 2.0, "lr": 0.1}]
    append_event(run, "epoch", epoch=2, step=20)
    assert read_step_losses(run) == []


@pytest.mark.slow
def test_part_of_a_pass_is_told_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "digits", "--model", "fc(10)", "--plan", "plain", "--batch", "64", "--budget.steps", "5"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert "epoch 0.25/0.25" in err
    assert "0.25 epochs, in 5 steps" in out
