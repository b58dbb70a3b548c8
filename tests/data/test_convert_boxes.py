"""Boxes written in another layout say the same, and what is lost is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from made_boxes import LAYOUTS, made_images, save, write_coco, write_table
from striate.api import convert_data
from striate.cli import main
from striate.data.config import DataConfig
from striate.data.convert_boxes import BoxLayout
from striate.data.listing import Listing
from striate.data.sources.list_source import list_source
from striate.errors import UsageError


def _said(listing: Listing) -> dict[str, tuple[str | None, list]]:
    """By stem the split, and boxes in pixels."""
    return {
        Path(path).stem: (split, sorted((*map(round, box.edges), box.label) for box in boxed.in_pixels((32, 40)).boxes))
        for path, split, boxed in zip(listing.paths, listing.given, listing.boxes, strict=True)
    }


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_each_layout_becomes_each_other_and_back(layout: str, tmp_path: Path) -> None:
    source = LAYOUTS[layout](tmp_path / "data", made_images(12))
    known = list_source(DataConfig(source=str(source)))
    for to in get_args(BoxLayout):
        written = convert_data(source, to, tmp_path / to)
        assert written.lost == ()
        again = list_source(DataConfig(source=str(written.data)))
        assert again.classes == known.classes
        assert _said(again) == _said(known)
        assert (
            [again.read(k) for k in range(3)]
            == [  # type: ignore[misc]
                known.read(known.paths.index(path))  # type: ignore[misc]
                for path in [next(p for p in known.paths if Path(p).stem == Path(q).stem) for q in again.paths[:3]]
            ]
        )


def test_what_is_lost_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_coco(tmp_path / "data", made_images(12), crowd=True)
    assert main(["data", "convert", str(source), "--to", "yolo", "--out", str(tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"] == 12
    assert any("crowd" in one for one in told["lost"])
    assert main(["data", "convert", str(source), "--to", "coco", "--out", str(tmp_path / "coco")]) == 0
    out = capsys.readouterr().out
    assert "Nothing was lost." in out
    assert "striate train" in out


def test_angles_are_kept_in_manifests_alone(tmp_path: Path) -> None:
    source = write_table(tmp_path / "data", made_images(8))
    lines = source.read_text().splitlines()
    rows = [line.split(",") for line in lines]
    text = [",".join([*rows[0][:6], "angle", "split"])]
    text += [",".join([*row[:6], "30" if row[1] else "", row[6]]) for row in rows[1:]]
    source.write_text("\n".join(text) + "\n")
    same = convert_data(source, "csv", tmp_path / "csv")
    assert same.lost == ()
    assert list_source(DataConfig(source=str(same.data))).boxes[0].boxes[0].angle == 30
    upright = convert_data(source, "coco", tmp_path / "coco")
    assert any("angle" in one for one in upright.lost)


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path) -> None:
    source = write_table(tmp_path / "data", made_images(8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with pytest.raises(UsageError, match="out-2"):
        convert_data(source, "voc", tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_table(tmp_path / "data", made_images(8))
    (tmp_path / "data" / "001.png").write_bytes(b"no picture")
    assert main(["data", "convert", str(source), "--to", "coco", "--out", str(tmp_path / "out")]) == 1
    assert "001.png" in capsys.readouterr().err


def _coco_with_everything(folder: Path) -> dict:
    """A COCO file beside its images, with fractions, polygons and further fields, and its content."""
    for number in range(4):
        save(made_images(4)[number][0], folder / "images" / f"{number}.png")
    outline = [[5.25, 6.5, 25.375, 6.5, 25.375, 22.25, 9.5, 22.25]]
    document = {
        "info": {"year": 2024},
        "images": [{"id": 40 + n, "file_name": f"{n}.png", "height": 32, "width": 40, "license": 1} for n in range(4)],
        "annotations": [
            {"id": 7 * n, "image_id": 40 + n, "category_id": 9, "bbox": [5.25, 6.5, 20.125, 15.75], "area": 300.5}
            | {"iscrowd": 0, "segmentation": outline, "attributes": {"occluded": True}}
            for n in range(4)
        ],
        "categories": [{"id": 3, "name": "square", "supercategory": "shape"}, {"id": 9, "name": "disk"}],
    }
    (folder / "a.json").write_text(json.dumps(document))
    return document


def test_coco_stays_as_it_is(tmp_path: Path) -> None:
    document = _coco_with_everything(tmp_path / "data")
    same = convert_data(tmp_path / "data", "coco", tmp_path / "coco")
    assert same.lost == ()
    assert same.masks == 4
    assert json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text()) == document


def test_boxes_of_coco_are_not_those_around_its_outlines(tmp_path: Path) -> None:
    _coco_with_everything(tmp_path / "data")
    table = convert_data(tmp_path / "data", "csv", tmp_path / "csv")
    assert table.data.read_text().splitlines()[1] == "images/0.png,5.25,6.5,25.375,22.25,disk"
    assert "Not read: outlines of 4 objects." in table.lost
    assert "further fields of COCO: attributes, info, license and supercategory." in table.lost


def test_coco_files_that_become_one_are_numbered_anew(tmp_path: Path) -> None:
    document = _coco_with_everything(tmp_path / "data")
    _coco_with_everything(tmp_path / "data" / "more")
    for path in (tmp_path / "data" / "more" / "images").iterdir():
        path.rename(path.with_name(f"more{path.name}"))
    document["images"] = [entry | {"file_name": f"more{entry['file_name']}"} for entry in document["images"]]
    (tmp_path / "data" / "more" / "a.json").write_text(json.dumps(document))
    written = convert_data(tmp_path / "data", "coco", tmp_path / "coco")
    merged = json.loads((tmp_path / "coco" / "annotations" / "instances.json").read_text())
    assert [entry["id"] for entry in merged["annotations"]] == list(range(1, 9))
    assert {entry["id"] for entry in merged["images"]} == {entry["image_id"] for entry in merged["annotations"]}
    assert {entry["category_id"] for entry in merged["annotations"]} == {2}
    assert merged["annotations"][0]["bbox"] == [5.25, 6.5, 20.125, 15.75]
    assert written.lost == (
        "ids of images, annotations and categories: 2 files become one.",
        "further fields of COCO: info and supercategory.",
    )


def test_folders_above_are_made(tmp_path: Path) -> None:
    source = write_table(tmp_path / "data", made_images(8))
    assert convert_data(source, "voc", tmp_path / "a" / "b").path.is_dir()
