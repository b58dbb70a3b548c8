"""Classes, labels and values of masks that occur in val or test alone are named before a training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.api import check_data
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.records import Finding

SPLITS = ("train",) * 8 + ("val",) * 4 + ("test",) * 4


def _manifest(folder: Path, header: str, rows: list[str]) -> Path:
    folder.mkdir()
    rng, lines = np.random.default_rng(0), [f"path,{header},split"]
    for number, (row, split) in enumerate(zip(rows, SPLITS, strict=True)):
        Image.fromarray(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)).save(folder / f"{number:02}.png")
        lines.append(f"{number:02}.png,{row},{split}")
    (folder / "all.csv").write_text("\n".join(lines) + "\n")
    return folder / "all.csv"


def _labels(folder: Path, other: bool) -> DataConfig:
    rows = [("one|two", "two", "one", "")[number % 4] for number in range(16)]
    rows[9] = "two|rare" if other else rows[9]
    return DataConfig(str(_manifest(folder, "labels", rows)))


def _targets(folder: Path, other: bool) -> DataConfig:
    rows = [f"{number % 7},{'fm'[number % 2]},{('hat', 'tie|hat')[number // 2 % 2]}" for number in range(16)]
    rows[9] = "3,rare," if other else rows[9]
    path = _manifest(folder, "age,kind,tags", rows)
    return DataConfig(str(path), targets="age:number,kind:class,tags:multilabel")


def _masks(folder: Path, other: bool) -> DataConfig:
    rng = np.random.default_rng(0)
    for number, split in enumerate(SPLITS):
        mask = rng.integers(0, 2, (16, 16))
        mask[4:12, 4:12] = 2 if other and number == 9 else 1
        for part, pixels in (("images", rng.integers(0, 256, (16, 16))), ("masks", mask)):
            (folder / split / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / split / part / f"{number:02}.png")
    return DataConfig(str(folder))


def _missing(found: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(one.severity, one.measured) for one in found if one.code == "data.missing-class"]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_labels, "3 labels: train has no rare; test has no rare"),
        (_targets, "5 classes: train has no kind=rare; test has no kind=rare"),
        (_masks, "3 values of masks: train has no 2; test has no 2"),
    ],
)
def test_what_occurs_in_val_alone_is_named_before_training(
    make: Callable[[Path, bool], DataConfig], said: str, tmp_path: Path
) -> None:
    planted, healthy = make(tmp_path / "planted", True), make(tmp_path / "healthy", False)
    assert _missing(load_dataset(planted).findings) == [("error", said)]
    assert _missing(load_dataset(healthy).findings) == []
    fields = {"data.targets": planted.targets} if planted.targets else {}
    assert _missing(check_data(planted.source, set=fields).findings) == [("error", said)]
