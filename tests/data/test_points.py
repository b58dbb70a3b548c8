"""Named points: how they are read, where they lie in an input, and what is found about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from striate.api import check_data
from striate.data.annotations.points import pairs_of_names, read_pairs, suggested_pairs
from striate.data.audit.check import check_evidence
from striate.data.audit.evidence import gather_evidence
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import ConfigError, DataError

FACE = np.array([[0.3, 0.35], [0.7, 0.35], [0.5, 0.55], [0.4, 0.75], [0.6, 0.75]])
NAMES = ("left_eye", "right_eye", "nose", "mouth_l", "mouth_r")


def write_faces(folder: Path, count: int = 60, size: tuple[int, int] = (48, 32), **changed: Callable) -> Path:
    """Images (width, height) `size` with five bright dots, and a manifest of them. `rows(points, number)` changes what
    is written, (K, 2) in pixels."""
    rng = np.random.default_rng(0)
    lines = ["path," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")]
    width, height = size
    written = []
    for number in range(count):
        center = np.array([width / 2, height / 2]) + rng.uniform(-0.25, 0.25, 2) * size
        points = center + (FACE - [0.5, 0.5]) * 16 + rng.normal(0, 0.2, (5, 2))
        down, right = np.mgrid[:height, :width] + 0.5
        image = np.zeros((height, width))
        for x, y in points:
            image = np.maximum(image, np.exp(-((right - x) ** 2 + (down - y) ** 2) / 8))
        Image.fromarray((image * 200 + 20).astype(np.uint8)).save(folder / f"{number:03}.png")
        written.append(points)
    rows = changed.get("rows", lambda points, number: points[number])
    for number in range(count):
        values = ",".join(f"{value:.2f}" for value in np.ravel(rows(written, number)))
        lines.append(f"{number:03}.png,{values}")
    file = folder / "points.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def codes(file: Path) -> set[str]:
    config = DataConfig(source=str(file))
    check = check_evidence(gather_evidence(list_source(config), config))
    return {finding.code for finding in check.findings if finding.code.startswith("data.point")}


# Reading


def test_points_by_name_have_pixels_and_what_is_empty_is_not_visible(tmp_path: Path) -> None:
    file = write_faces(tmp_path, 4)
    lines = file.read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 2)[0] + ",,"
    file.write_text("\n".join(lines))
    listing = list_source(DataConfig(source=str(file)))
    assert (listing.annotation, listing.target_names) == ("point", NAMES)
    assert listing.targets is not None
    assert listing.targets.shape == (4, 5, 3)
    assert listing.targets[0, 4].tolist() == [0, 0, 0]
    assert listing.labels[0] == "4 of 5 points"
    assert listing.columns == {}
    # A folder with such a table needs no other name.
    assert list_source(DataConfig(source=str(tmp_path))).target_names == NAMES


def test_numbered_points_groups_and_further_columns(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,x1,y1,x2,y2,group,light\na.png,1,2,3,4,anna,dim\n")
    listing = list_source(DataConfig(source=str(tmp_path / "t.csv")))
    assert listing.target_names == ("1", "2")
    assert listing.groups == ("anna",)
    assert listing.columns == {"light": ("dim",)}
    assert listing.targets is not None
    assert listing.targets[0].tolist() == [[1, 2, 1], [3, 4, 1]]


def test_a_label_goes_before_points_unless_these_are_asked_for(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,label,x1,y1\na.png,cat,1,2\n")
    assert list_source(DataConfig(source=str(tmp_path / "t.csv"))).annotation == "class"
    assert list_source(DataConfig(source=str(tmp_path / "t.csv")), "point").annotation == "point"


def test_a_column_of_x_without_one_of_y_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for header, lacking in (("nose_x,nose_y,ear_x", "ear_y"), ("x1,y1,y2", "x2")):
        (tmp_path / "t.csv").write_text(f"path,{header}\na.png,1,2,3\n")
        with pytest.raises(DataError, match=f"without a column {lacking}"):
            list_source(DataConfig(source=str(tmp_path / "t.csv")))


@pytest.mark.parametrize(("fields", "named"), [("1,", "'1,'"), ("1,two", "two"), ("1,inf", "inf")])
def test_a_point_that_is_none_is_named_with_its_line(tmp_path: Path, fields: str, named: str) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text(f"path,x1,y1\na.png,{fields}\n")
    with pytest.raises(DataError, match="line 2") as caught:
        list_source(DataConfig(source=str(tmp_path / "t.csv")))
    assert named in caught.value.got


def test_coco_keypoints_of_images_with_one_object(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a", "b", "c"):
        Image.new("L", (8, 8)).save(tmp_path / "images" / f"{name}.png")
    entry = {"category_id": 1, "iscrowd": 0, "num_keypoints": 2}
    document = {
        "images": [{"id": k, "file_name": f"{name}.png", "width": 8, "height": 8} for k, name in enumerate("abc")],
        "categories": [{"id": 1, "name": "face", "keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}],
        "annotations": [
            entry | {"id": 1, "image_id": 0, "keypoints": [1, 2, 2, 0, 0, 0]},
            entry | {"id": 2, "image_id": 1, "keypoints": [1, 2, 2, 3, 4, 1]},
            entry | {"id": 3, "image_id": 1, "keypoints": [2, 2, 2, 3, 3, 2]},
        ],
    }
    (tmp_path / "annotations").mkdir()
    file = tmp_path / "annotations" / "person_keypoints_train.json"
    file.write_text(json.dumps(document))
    for source in (file, tmp_path):
        listing = list_source(DataConfig(source=str(source)))
        assert [Path(path).name for path in listing.paths] == ["a.png"]
        assert listing.skeleton == ((0, 1),)
        assert listing.given == ("train",)
        assert listing.targets is not None
        assert listing.targets[0].tolist() == [[1, 2, 1], [0, 0, 0]]
        assert any("several objects" in note for note in listing.notes)
    document["annotations"][0]["keypoints"] = [1, 2, 2]
    file.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"person_keypoints_train.json"):
        list_source(DataConfig(source=str(file)))


def test_of_images_of_one_name_that_of_the_split_of_the_file_is_meant(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        Image.new("L", (8, 8)).save(tmp_path / split / "a.png")
        document = {
            "images": [{"id": 0, "file_name": "a.png"}],
            "categories": [{"id": 1, "name": "face", "keypoints": ["eye"]}],
            "annotations": [{"id": 1, "image_id": 0, "category_id": 1, "keypoints": [1, 2, 2]}],
        }
        (tmp_path / f"person_keypoints_{split}.json").write_text(json.dumps(document))
    listing = list_source(DataConfig(source=str(tmp_path)))
    assert dict(zip(listing.paths, listing.given, strict=True)) == {"train/a.png": "train", "val/a.png": "val"}


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_targets_lie_where_the_pixels_are(tmp_path: Path, fit: str) -> None:
    file = write_faces(tmp_path, 30)
    data = load_dataset(DataConfig(source=str(file), size=(64, 64), fit=fit))  # type: ignore[arg-type]
    split = data.splits["train"]
    for image, target, number in zip(split.inputs[:5], split.targets, split.ids, strict=False):
        for x, y, across, down in target.tolist():
            if abs(x) < 0.9 and abs(y) < 0.9:  # what crop cuts off is not seen
                assert image[0, int((y + 1) * 32), int((x + 1) * 32)] > 150, (fit, int(number))
            assert (across, down) == pytest.approx(
                {"pad": (24, 24), "crop": (16, 16), "stretch": (24, 16)}[fit], rel=0.02
            )


# Left and right


def test_left_and_right_by_name() -> None:
    assert pairs_of_names(NAMES) == (1, 0, 2, 4, 3)
    assert pairs_of_names(("LeftEye", "RightEye", "Nose")) == (1, 0, 2)
    assert pairs_of_names(("leftEye", "rightEye")) == (1, 0)
    assert pairs_of_names(("1", "2")) == ()
    assert pairs_of_names(("left_eye", "nose")) == (), "without its counterpart nobody knows"


def test_pairs_are_read_and_what_is_none_is_refused() -> None:
    assert read_pairs("1=3", ("1", "2", "3")) == (2, 1, 0)
    assert read_pairs("none", ("1", "2")) == (0, 1)
    for text in ("1=4", "1=1", "1=2,2=3", "1"):
        with pytest.raises(ConfigError, match="flip_pairs"):
            read_pairs(text, ("1", "2", "3"))


def test_pairs_are_suggested_of_a_mean_shape_that_is_its_own_mirror_image() -> None:
    assert suggested_pairs(("1", "2", "3", "4", "5"), FACE) == "1=2,4=5"
    assert suggested_pairs(("1", "2", "3"), np.array([[0, 0], [1, 0.2], [0.3, 2]])) == ""


# What is found, and its healthy twins


def test_nothing_is_found_about_healthy_points(tmp_path: Path) -> None:
    assert codes(write_faces(tmp_path)) == set()


PLANTED: dict[str, Callable] = {
    "data.points-normalized": lambda points, number: points[number] / [48, 32],
    "data.points-shifted": lambda points, number: points[(number + 1) % len(points)],
    "data.points-exchanged": lambda points, number: points[number][:, ::-1] if number % 5 == 0 else points[number],
    "data.points-mirrored": lambda points, number: (
        points[number][[1, 0, 2, 4, 3]] if number % 8 == 0 else points[number]
    ),
    "data.points-outside": lambda points, number: points[number] + (100 if number == 7 else 0),
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("code", sorted(PLANTED))
def test_what_is_planted_is_found(tmp_path: Path, code: str) -> None:
    assert codes(write_faces(tmp_path, rows=PLANTED[code])) == {code}


def test_placeholders_of_points_that_are_not_visible_are_told(tmp_path: Path) -> None:
    def rows(points: list, number: int) -> np.ndarray:
        changed = np.array(points[number])
        if number % 6 == 0:
            changed[2] = -1
        return changed

    assert codes(write_faces(tmp_path, rows=rows)) == {"data.points-placeholder"}


def test_x_and_y_exchanged_everywhere_are_told_by_the_sizes_of_images(tmp_path: Path) -> None:
    file = write_faces(tmp_path, size=(96, 32), rows=lambda points, number: points[number][:, ::-1])
    assert codes(file) == {"data.points-exchanged"}


def test_points_that_no_image_shows_are_named(tmp_path: Path) -> None:
    file = write_faces(tmp_path, 30)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *(line.rsplit(",", 2)[0] + ",," for line in lines[1:])]))
    assert codes(file) == {"data.points-unseen"}
    data = load_dataset(DataConfig(source=str(file)))
    assert torch.equal(data.splits["train"].targets[:, 4].abs().sum(), torch.tensor(0.0))
    assert "data.points-unseen" in {finding.code for finding in data.findings}, "also before training"
    file.write_text("\n".join([lines[0], *(line.split(",")[0] + "," * lines[0].count(",") for line in lines[1:])]))
    (finding,) = check_data(file).findings
    assert (finding.code, finding.severity) == ("data.points-unseen", "error"), "train refuses them"


def test_what_needs_no_look_at_images_is_said_before_training(tmp_path: Path) -> None:
    file = write_faces(tmp_path, rows=PLANTED["data.points-mirrored"])
    found = {finding.code for finding in load_dataset(DataConfig(source=str(file), size=(32, 32))).findings}
    assert "data.points-mirrored" in found


def test_a_manifest_without_what_is_wrong_has_the_points_of_the_rest(tmp_path: Path) -> None:
    from striate.cli import main

    file = write_faces(tmp_path, rows=PLANTED["data.points-outside"])
    assert main(["data", "check", str(file), "--quarantine", str(tmp_path / "kept.csv")]) == 1
    kept = list_source(DataConfig(source=str(tmp_path / "kept.csv")))
    assert (len(kept), kept.target_names) == (59, NAMES)
    assert codes(tmp_path / "kept.csv") == set()


def test_inputs_are_as_large_as_the_points_need(tmp_path: Path) -> None:
    file = write_faces(tmp_path, 12, size=(400, 400))  # the points span 16 pixels of 400
    assert load_dataset(DataConfig(source=str(file))).input_shape[1:] == (256, 256)
    (tmp_path / "small").mkdir()
    assert load_dataset(DataConfig(source=str(write_faces(tmp_path / "small", 12)))).input_shape[1:] == (32, 48)
