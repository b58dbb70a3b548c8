"""What is said of a split in which nothing is annotated: to let striate split only where splits are given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.api import check_data
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.errors import DataError

COUNT = 20


def _table(folder: Path, header: str, row: Callable[[int], str], *, given: bool) -> DataConfig:
    rng, lines = np.random.default_rng(0), [f"path,{header}{',split' * given}"]
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(folder / f"{number:02}.png")
        split = ",val" if number % 4 == 1 else ",test" if number % 4 == 2 else ",train"
        lines.append(f"{number:02}.png,{row(number)}{split * given}")
    (folder / "all.csv").write_text("\n".join(lines) + "\n")
    return DataConfig(str(folder / "all.csv"))


def _refused(config: DataConfig) -> tuple[str, str]:
    with pytest.raises(DataError) as caught:
        load_dataset(config)
    return caught.value.got, caught.value.remedy


def test_data_without_a_sample_to_train_on_name_their_splits(tmp_path: Path) -> None:
    got, remedy = _refused(_table(tmp_path, "label,split", lambda k: f"{k % 2},test", given=False))
    assert got == "all of 20 readable samples in the splits that the data give: test"
    assert "the column split" in remedy


@pytest.mark.parametrize("given", [True, False])
def test_boxes_outside_of_their_images_are_said_to_be(tmp_path: Path, given: bool) -> None:
    config = _table(tmp_path, "x_min,y_min,x_max,y_max,label", lambda k: f"100,100,120,120,{k % 2}", given=given)
    got, remedy = _refused(config)
    assert "objects lie outside of their images" in got
    assert f"striate data check {config.source}" in remedy
    assert "let striate split" not in remedy


def test_images_without_boxes_are_moved_where_splits_are_given(tmp_path: Path) -> None:
    def row(number: int) -> str:
        return ",,,," if number % 4 == 1 else "2,2,9,9,disk"

    got, remedy = _refused(_table(tmp_path, "x_min,y_min,x_max,y_max,label", row, given=True))
    assert "no object in the 5 images of val" in got
    assert "let striate split" in remedy


@pytest.mark.parametrize("given", [True, False])
def test_points_that_are_nowhere_visible_are_annotated(tmp_path: Path, given: bool) -> None:
    got, remedy = _refused(_table(tmp_path, "nose_x,nose_y", lambda _: ",", given=given))
    assert "no visible point" in got
    assert ("let striate split" in remedy) == given


ROWS: dict[str, tuple[str, Callable[[int], str]]] = {
    "points": ("nose_x,nose_y", lambda k: "," if k % 4 == 1 else "3,4"),
    "boxes": ("x_min,y_min,x_max,y_max,label", lambda k: ",,,," if k % 4 == 1 else "2,2,9,9,disk"),
    "labels": ("labels", lambda k: "" if k % 4 == 1 else "a|b" if k % 8 else "a"),
    "columns": ("age,kind", lambda k: "," if k % 4 == 1 else f"{k},{k % 3}"),
}


@pytest.mark.parametrize("kind", ROWS)
def test_data_check_names_the_split_that_training_refuses(tmp_path: Path, kind: str) -> None:
    config = _table(tmp_path, *ROWS[kind], given=True)
    config = replace(config, targets="age:number,kind:class") if kind == "columns" else config
    got, _ = _refused(config)
    assert got.endswith("the 5 samples of val") or got.endswith("the 5 images of val")
    found = check_data(config.source, set={"data.targets": config.targets} if config.targets else {}).findings
    assert [(one.severity, one.measured) for one in found if one.code == "data.unusable"] == [("error", got)]
