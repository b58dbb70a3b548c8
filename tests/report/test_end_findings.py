"""What a training says when it is over."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

import striate
from striate.cli import main


def test_one_class_everywhere_comes_with_the_command_of_a_longer_training(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (70, 24, 24), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", x=x, y=np.arange(70) % 12 // 7)
    run = striate.train(
        tmp_path / "noise.npz",
        "conv(2,3) gap fc(2)",
        epochs=4,
        lr=0.05,
        out=tmp_path / "a run",
        set={"execution.plan": "plain"},
    )
    (finding,) = [finding for finding in run.metrics["findings"] if finding["code"] == "fit.one-class"]
    text, _, command = finding["remedy"].partition(": striate ")
    assert text == "Train for longer"
    assert main(shlex.split(command)) == 0
    assert (tmp_path / "a run-longer" / "metrics.json").exists()


def test_rare_classes_are_told_in_whole_sentences(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "rare.npz", x=x, y=(np.arange(100) % 20 == 0).astype(int))
    run = striate.train(
        tmp_path / "rare.npz", "conv(2,3) gap fc(2)", epochs=1, out=tmp_path / "run", set={"execution.plan": "plain"}
    )
    page = (run.path / "report.html").read_text()
    assert "accuracy hides rare classes." in page
