"""The examples that make their data: these are read as the example says."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from striate.data.config import DataConfig
from striate.data.read import load_dataset

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    ("name", "asked", "annotation"), [("regression", None, "number"), ("instances", "instance", "instance")]
)
def test_what_it_makes_is_read_for_its_task(name: str, asked: str | None, annotation: str, tmp_path: Path) -> None:
    example = runpy.run_path(str(EXAMPLES / f"{name}.py"))
    example["write"].__globals__["COUNT"] = 30
    data = load_dataset(DataConfig(str(example["write"](tmp_path / "made"))), annotation=asked)
    assert data.annotation == annotation
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 21, "val": 3, "test": 6}
    assert not [finding for finding in data.findings if finding.severity == "error"]
