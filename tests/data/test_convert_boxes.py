"""Boxes written in another layout say the same, and what is lost is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from made_boxes import LAYOUTS, made_images, write_coco, write_table
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
