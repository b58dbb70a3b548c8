"""A run whose data have no test split: it is measured on validation, and what needs test data says so."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import striate
from striate.api import learning_curve, robustness
from striate.cli import main
from striate.errors import DataError

NETWORK = "conv(4,3) bn relu gap fc(3)"
WITHOUT = ["--data.test_fraction", "0"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, write_photos: Callable[..., Path]) -> Path:
    root = tmp_path_factory.mktemp("without")
    write_photos(root / "photos", 3, 8, 12)
    words = ["train", str(root / "photos"), "--model", NETWORK, "--epochs", "2", "--out", str(root / "run"), *WITHOUT]
    assert main(words) == 0
    return root


def test_metrics_and_report_are_those_of_validation(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = json.loads((place / "run" / "metrics.json").read_text())
    assert "test" not in metrics
    assert metrics["train"]["n"] + metrics["val"]["n"] == 24
    assert "There is no test split" in (place / "run" / "report.html").read_text()
    assert main(["eval", str(place / "run")]) == 0
    assert "val split" in capsys.readouterr().out
    assert main(["verify", str(place / "run"), "--steps", "1"]) == 0
    # Other data whose classes lie one folder deeper.
    shutil.copytree(place / "photos", place / "deeper" / "site")
    assert striate.evaluate(place / "run", place / "deeper").n == 24


def test_what_measures_on_test_data_is_refused_with_the_option_that_cuts_them(place: Path) -> None:
    for measure in (learning_curve, robustness):
        with pytest.raises(DataError, match=r"data\.test_fraction 0\.2"):
            measure(place / "run")
    with pytest.raises(DataError, match=r"data\.test_fraction 0\.2"):
        striate.compare([place / "run", shutil.copytree(place / "run", place / "copy")])
    with pytest.raises(DataError, match=r'set=\{"data\.test_fraction": 0\.2\}'):
        striate.train(place / "photos", NETWORK, baseline=True, set={"data.test_fraction": 0})
