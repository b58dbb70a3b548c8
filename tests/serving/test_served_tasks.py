"""A run of each task answers over HTTP what `striate predict --json` prints for the same files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

import striate
from striate.cli import main
from striate.serving.application import make_application
from striate.serving.service import Limits, Service
from striate.tasks.every import TASKS

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).parents[1] / "tasks"))
from every_task import EXAMPLES, Example  # noqa: E402


def _rotated_boxes(folder: Path) -> Path:
    """The boxes of the example of `detect`, each with an angle."""
    source = EXAMPLES["detect"].make(folder)
    head, *rows = source.read_text().splitlines()
    source.write_text("\n".join([f"{head},angle", *(f"{row},{7 * number % 90}" for number, row in enumerate(rows))]))
    return source


def _example(name: str) -> Example:
    if name != "rotated":
        return EXAMPLES[name]
    detect = EXAMPLES["detect"]
    return Example(
        _rotated_boxes, detect.network, detect.ask, detect.spoil, detect.keys, detect.fields, detect.headline
    )


def _same(one: Any, other: Any) -> bool:
    """Equal but for the rounding of other batches."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == (pytest.approx(other, rel=1e-4, abs=1e-4) if isinstance(one, float) else other)


@pytest.mark.parametrize("name", [*sorted(TASKS), "rotated"])
def test_every_task_is_served(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = _example(name)
    source, run = example.make(tmp_path / "data"), tmp_path / "run"
    usual = ["--plan", "plain", "--epochs", "4", "--batch", "16", "--seed", "1", "--optim.lr", "0.01"]
    with torch.random.fork_rng():
        assert main(["train", str(source), "--model", example.network, *usual, *example.train, "--out", str(run)]) == 0
    asked = example.ask(source)
    other = tmp_path / "other.jpg"  # of another size and shape than those of the training
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (37, 52, 3), np.uint8)).save(other)
    asked = [*map(str, asked), str(other)]
    capsys.readouterr()
    assert main(["predict", str(run), *asked, "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    app = make_application(Service([run], striate.load, Limits()), "a-token-of-tests", "127.0.0.1")
    with TestClient(app, "http://127.0.0.1", headers={"authorization": "Bearer a-token-of-tests"}) as client:
        alone = [client.post("/predict", params={"name": path}, content=Path(path).read_bytes()) for path in asked]
        together = client.post("/predict", files=[("a", (path, Path(path).read_bytes())) for path in asked])
    assert [one.status_code for one in alone] == [200] * len(asked)
    assert example.fields <= printed[0].keys()
    for line, one, other_one in zip(printed, alone, together.json(), strict=True):
        assert _same(one.json(), line)
        assert _same(other_one, line)
