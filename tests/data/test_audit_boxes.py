"""Planted faults of boxes are found, and healthy data are not said to have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from made_boxes import made_images, write_coco, write_table, write_yolo
from striate.api import check_data
from striate.data.audit.box_pixels import _area, _corners
from striate.data.audit.boxes import find_box_faults
from striate.data.box_records import Box, ImageBoxes
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source

COUNT = 40


def _rows(path: Path, change: Callable[[list[str], int], list[list[str]]]) -> None:
    """Rewrite the rows of boxes; `change` gives those in place of one, from its fields and its number."""
    lines = path.read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    new = [row for k, one in enumerate(rows) for row in (change(one, k) if one[1] else [one])]
    path.write_text("\n".join([lines[0], *map(",".join, new)]) + "\n")


def _edges(row: list[str], edges: list[float]) -> list[str]:
    return [row[0], *(f"{edge:g}" for edge in edges), *row[5:]]


def _numbers(row: list[str]) -> list[float]:
    return [float(field) for field in row[1:5]]


def _sized(row: list[str], k: int) -> list[list[str]]:
    x0, y0, x1, y1 = _numbers(row)
    return [_edges(row, [x0, y0, x1 - x0, y1 - y0])]


def _normalized(row: list[str], k: int) -> list[list[str]]:
    x0, y0, x1, y1 = _numbers(row)
    return [_edges(row, [x0 / 80, y0 / 48, x1 / 80, y1 / 48])]


def _exchanged(row: list[str], k: int) -> list[list[str]]:
    x0, y0, x1, y1 = _numbers(row)
    return [_edges(row, [y0, x0, y1, x1])]


def _doubled(row: list[str], k: int) -> list[list[str]]:
    return [row, row] if k % 9 == 0 else [row]


def _flat(row: list[str], k: int) -> list[list[str]]:
    x0, y0, _, y1 = _numbers(row)
    return [_edges(row, [x0, y0, x0, y1])] if k == 4 else [row]


def _outside(row: list[str], k: int) -> list[list[str]]:
    x0, y0, x1, y1 = _numbers(row)
    return [_edges(row, [x0 + 70, y0, x1 + 70, y1])] if k == 5 else [row]


TABLES = {
    "data.box-format": (_sized, "corner and size"),
    "data.box-format shares": (_normalized, "fractions of width and height"),
    "data.box-format exchanged": (_exchanged, "y before x"),
    "data.box-double": (_doubled, "line"),
    "data.box-area": (_flat, "line"),
    "data.box-range": (_outside, "line"),
}


def _codes_of(source: Path) -> dict[str, str]:
    return {finding.code: f"{finding.measured} {finding.remedy}" for finding in check_data(source).findings}


@pytest.fixture(scope="module")
def made() -> list:
    return made_images(COUNT, (48, 80))


@pytest.fixture(scope="module")
def healthy(made: list, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_table(tmp_path_factory.mktemp("healthy") / "data", made)


def test_healthy_boxes_have_nothing(healthy: Path) -> None:
    assert not [code for code in _codes_of(healthy) if code.startswith("data.box") or code == "data.missing-class"]


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_planted_fault_is_found(name: str, made: list, tmp_path: Path) -> None:
    source = write_table(tmp_path, made)
    change, said = TABLES[name]
    _rows(source, change)
    found = _codes_of(source)
    code = name.split()[0]
    assert code in found
    assert said in found[code]
    assert [other for other in found if other.startswith("data.box")] == [code]


@pytest.mark.slow
def test_boxes_shifted_by_one_image_are_found(tmp_path: Path) -> None:
    made = made_images(COUNT, (96, 128))
    made = [one for one in made if one[1]]
    healthy = write_table(tmp_path / "healthy", made)
    assert "data.box-shift" not in _codes_of(healthy)
    shifted = [(image, made[(k + 1) % len(made)][1]) for k, (image, _) in enumerate(made)]
    assert "data.box-shift" in _codes_of(write_table(tmp_path / "shifted", shifted))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (lambda x, y, w, h: (80 * x, 48 * y, 80 * w, 48 * h), "as pixels, not fractions"),
        (lambda x, y, w, h: (100 * x, 60 * y, 100 * w, 60 * h), "as pixels, not fractions"),  # of an image scaled since
        (lambda x, y, w, h: (x - w / 2, y - h / 2, x + w / 2, y + h / 2), "as two corners, not center"),
        (lambda x, y, w, h: (80 * x - 40 * w, 48 * y - 24 * h, 80 * x + 40 * w, 48 * y + 24 * h), "corners in pixels"),
        (lambda _, y, w, h: (0.02, y - h / 2, w, h), "corner and size, not center"),
        (lambda x, y, w, h: (x, y, w, h), None),
    ],
)
def test_yolo_that_is_written_in_another_way_is_told(
    written: Callable[..., tuple[float, ...]], said: str | None, made: list, tmp_path: Path
) -> None:
    for file in (write_yolo(tmp_path, made) / "labels").rglob("*.txt"):
        rows = [line.split() for line in file.read_text().splitlines()]
        file.write_text("".join(f"{row[0]} {' '.join(map(str, written(*map(float, row[1:]))))}\n" for row in rows))
    listing = list_source(DataConfig(source=str(tmp_path)))
    found = find_box_faults(listing, dict.fromkeys(range(len(listing)), (48, 80)))
    formats = [mark.finding.measured for mark in found if mark.finding.code == "data.box-format"]
    assert not formats if said is None else said in formats[0]


def test_labels_counted_from_one_are_told(made: list, tmp_path: Path) -> None:
    source = write_yolo(tmp_path, made)
    (source / "data.yaml").write_text("names: [none, disk, square]\n")
    for file in (source / "labels").rglob("*.txt"):
        lines = [line.split(" ", 1) for line in file.read_text().splitlines()]
        file.write_text("".join(f"{int(kind) + 1} {rest}\n" for kind, rest in lines))
    found = _codes_of(source)
    assert "subtract 1" in found["data.missing-class"]


def test_images_that_were_turned_since_are_told(made: list, tmp_path: Path) -> None:
    source = write_coco(tmp_path, made)
    file = source / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    for image in document["images"]:
        image["width"], image["height"] = image["height"], image["width"]
    file.write_text(json.dumps(document))
    assert "annotated as 48 × 80" in _codes_of(source)["data.box-size"]


def test_a_class_that_is_never_learned_is_told(made: list, tmp_path: Path) -> None:
    renamed = [
        (image, [(*box[:4], "rare") if k % 4 == 3 and place == 0 else box for place, box in enumerate(boxes)])
        for k, (image, boxes) in enumerate(made)
    ]
    assert "train has no rare" in _codes_of(write_table(tmp_path, renamed))["data.missing-class"]


def test_the_pixels_of_a_rotated_box_are_those_after_the_turn() -> None:
    upright = ImageBoxes((Box((12, 28, 36, 36), "rod"),), "boxes.csv")
    turned = ImageBoxes((Box((12, 28, 36, 36), "rod", angle=90.0),), "boxes.csv")
    for boxed, area in ((upright, np.s_[28:36, 8:24]), (turned, np.s_[20:44, 13:19])):
        (corners,) = _corners(boxed, np.array([64, 96]))
        expected = np.zeros((64, 64), np.bool_)
        expected[area] = True
        assert np.array_equal(_area(corners), expected)


def test_labels_of_yolo_without_an_image_are_named(tmp_path: Path) -> None:
    write_yolo(tmp_path, made_images(12))
    (tmp_path / "images" / "train" / "000.png").unlink()
    found = _codes_of(tmp_path)
    assert "1 file of boxes without an image of the same name: labels/train/000.txt" in found["data.misplaced"]
    assert "data.ignored" not in found
    told = {finding.code: finding.severity for finding in load_dataset(DataConfig(str(tmp_path))).findings}
    assert told["data.misplaced"] == "warning", "also before training"


def test_exchanged_corners_are_named(tmp_path: Path) -> None:
    table = write_table(tmp_path, made_images(12))
    lines = table.read_text().splitlines()
    path, x0, y0, x1, y1, *rest = lines[1].split(",")
    table.write_text("\n".join([lines[0], ",".join([path, x1, y0, x0, y1, *rest]), *lines[2:]]) + "\n")
    (finding,) = (one for one in check_data(table).findings if one.code == "data.box-area")
    assert "exchanged corners" in finding.why
    assert finding.remedy.startswith("Exchange the corners")
