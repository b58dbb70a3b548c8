"""The example that finds whales and then tells them apart, on a few pictures."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "find_then_identify.py"


@pytest.mark.slow
def test_whales_are_found_and_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = importlib.util.spec_from_file_location("find_then_identify", EXAMPLE)
    assert described is not None
    assert described.loader is not None
    example = importlib.util.module_from_spec(described)
    described.loader.exec_module(example)
    with torch.random.fork_rng():
        example.main(tmp_path / "whales", 48, 2, 2)
    shown = capsys.readouterr().out
    assert "48 crops of 48 pictures, nothing found in 0" in shown
    assert "by crops:" in shown
    with (tmp_path / "whales" / "crops" / "crops.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["label"] for row in rows} == {f"whale-{number}" for number in range(16)}
