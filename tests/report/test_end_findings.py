"""What a training says when it is over."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import striate
from striate.cli import main
from striate.exporting.model_card import card_facts
from striate.tasks.registry import split_line


@pytest.mark.parametrize(("epochs", "code"), [(4, "fit.too-short"), (12, "fit.one-class")])
def test_one_finding_has_the_command_of_a_longer_training(tmp_path: Path, epochs: int, code: str) -> None:
    x = np.random.default_rng(0).integers(0, 256, (70, 24, 24), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x=x, y=np.arange(70) % 12 // 7)
    run = striate.train(
        tmp_path / "noise.npz",
        "conv(2,3) gap fc(2)",
        epochs=epochs,
        lr=0.05,
        out=tmp_path / "a run",
        set={"execution.plan": "plain"},
    )
    assert "fit.one-class" in {finding["code"] for finding in run.metrics["findings"]}
    (finding,) = [finding for finding in run.metrics["findings"] if "striate train" in finding["remedy"]]
    assert finding["code"] == code
    text, _, command = finding["remedy"].partition(": striate ")
    assert text == "Train for longer"
    assert main(shlex.split(command)) == 0
    assert (tmp_path / "a run-longer" / "metrics.json").exists()


def test_a_training_that_patience_ended_is_advised_to_go_on_without_it(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (70, 24, 24), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x=x, y=np.arange(70) % 12 // 7)
    run = striate.train(
        tmp_path / "noise.npz", "conv(2,3) gap fc(2)", epochs=12, lr=0.5, out=tmp_path / "run",
        set={"execution.plan": "plain", "budget.patience": 1},
    )  # fmt: skip
    (finding,) = [finding for finding in run.metrics["findings"] if finding["code"] == "fit.one-class"]
    text, longer, search = finding["remedy"].split(": striate ")
    assert text == "Train for longer, without the patience that ended this training"
    assert (
        longer == f"train --config {run.path}/config.yaml --patience 0 --out {run.path}-longer"
        "; or use another learning rate than 0.5"
    )
    assert search == f"lr-find --config {run.path}/config.yaml"
    assert main(shlex.split(longer.partition(";")[0])) == 0
    assert json.loads((tmp_path / "run-longer" / "metrics.json").read_text())["epochs"] == 12


def test_rare_classes_are_told_in_whole_sentences(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "rare.npz", x=x, y=(np.arange(100) % 20 == 0).astype(int))
    run = striate.train(
        tmp_path / "rare.npz", "conv(2,3) gap fc(2)", epochs=1, out=tmp_path / "run", set={"execution.plan": "plain"}
    )
    page = (run.path / "report.html").read_text()
    assert "accuracy hides rare classes." in page


def test_the_training_samples_that_were_not_measured_are_counted(tmp_path: Path) -> None:
    settings = {"execution.plan": "plain", "evaluation.train_samples": 20}
    run = striate.train("iris", "mlp(4)", epochs=1, out=tmp_path / "run", set=settings)
    assert (run.metrics["train"]["n"], run.metrics["train"]["of"]) == (20, 105)
    assert "of" not in run.metrics["val"]
    assert split_line(run.metrics["train"]).endswith("n = 20 of 105")
    assert ">20 of 105<" in run.report.read_text()
    assert card_facts(run.metrics, None, (), "iris")["counts"]["train"] == 105
