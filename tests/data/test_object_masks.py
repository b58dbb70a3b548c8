"""Masks of single objects: each form says the same, what is wrong is named, and faults are found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from made_instances import SIZE, made_disks, write_coco_masks, write_numbered
from striate.api import check_data, convert_data
from striate.data.annotations.instances import objects_of
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import DataError

MADE = made_disks()


def _load(source: Path, **given: Any) -> Dataset:
    return load_dataset(DataConfig(source=str(source), size=SIZE, **given), annotation="instance")


def _by_stem(data: Dataset) -> dict[str, np.ndarray]:
    return {
        Path(path).stem: target.numpy()
        for name, split in data.splits.items()
        for path, target in zip(data.facts[name].paths, split.targets, strict=True)
    }


@pytest.mark.parametrize("form", ["numbers", "runs", "text"])
def test_each_form_says_the_same(form: str, tmp_path: Path) -> None:
    write = write_numbered if form == "numbers" else lambda folder, made: write_coco_masks(folder, made, form)
    data = _load(write(tmp_path / "data", MADE))
    found = _by_stem(data)
    assert len(found) == len(MADE)
    for number, (_, numbers) in enumerate(MADE):
        truth = np.where(numbers > 0, 2 * numbers.astype(int) - 1, 0)
        assert np.array_equal(found[f"{number:03}"], truth), "each pixel is of its object"
    assert data.classes == (("object",) if form == "numbers" else ("cell",))


def test_polygons_are_filled(tmp_path: Path) -> None:
    found = _by_stem(_load(write_coco_masks(tmp_path, MADE, "polygons")))
    for number, (_, numbers) in enumerate(MADE):
        if numbers.any():
            assert (found[f"{number:03}"] > 0)[numbers > 0].all()


def test_boxes_of_targets_are_those_around_what_is_seen() -> None:
    targets = torch.zeros(2, 6, 8, dtype=torch.int16)
    targets[0, 1:3, 2:5] = 1 + 2 * (4 * 3 + 2) + 1  # object 4 of class 2, a crowd
    targets[0, 5, 7] = 1 + 2 * (0 * 3 + 1)
    boxes, values = objects_of(targets, 3)
    assert boxes[0].tolist() == [[7, 5, 8, 6, 1, 0], [2, 1, 5, 3, 2, 1]]
    assert values.tolist() == [[3, 30], [0, 0]]
    assert boxes[1, :, 4].tolist() == [-1, -1]


def test_masks_lie_where_the_image_does(tmp_path: Path) -> None:
    """Enlarged twice, and padded: each pixel of the file is four of the input."""
    data = load_dataset(DataConfig(source=str(write_numbered(tmp_path, MADE)), size=(64, 128)), annotation="instance")
    target, path = data.splits["train"].targets[0].numpy(), data.facts["train"].paths[0]
    numbers = MADE[int(Path(path).stem)][1].repeat(2, 0).repeat(2, 1)
    assert np.array_equal(target[:, 16:112] > 0, numbers > 0)
    assert not target[:, :16].any()
    assert not target[:, 112:].any()


def test_of_masks_that_overlap_the_smaller_is_seen(tmp_path: Path) -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    square = np.zeros(SIZE, np.uint16)
    square[4:20, 4:20] = 1
    write_coco_masks(tmp_path, [(image + k, square) for k in range(8)], "runs")
    document = json.loads((tmp_path / "instances.json").read_text())
    small = [dict(one, id=100 + k, segmentation=[[8, 8, 12, 8, 12, 12, 8, 12]]) for k, one in
             enumerate(document["annotations"])]  # fmt: skip
    document["annotations"] = small + document["annotations"]
    (tmp_path / "instances.json").write_text(json.dumps(document))
    target = next(iter(_by_stem(_load(tmp_path)).values()))
    assert (target == 1).sum() == 16
    assert (target == 3).sum() == 16 * 16 - 16


def test_many_numbers_are_objects_without_being_asked(tmp_path: Path) -> None:
    rows = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
    made = [(image, np.minimum(rows // 4, 250 + 3 * k).astype(np.uint16)) for k, (image, _) in enumerate(MADE)]
    source = write_numbered(tmp_path, made)
    assert list_source(DataConfig(source=str(source))).annotation == "instance"
    assert list_source(DataConfig(source=str(source)), "box").annotation == "box"
    (tmp_path / "classes.txt").write_text("a\nb\n")
    assert list_source(DataConfig(source=str(source))).annotation == "mask", "values with names are classes"


def test_boxes_and_outlines_are_asked_back(tmp_path: Path) -> None:
    write_coco_masks(tmp_path, MADE)
    with pytest.raises(DataError, match=r"--task detect.*--task instances"):
        list_source(DataConfig(source=str(tmp_path)))
    assert list_source(DataConfig(source=str(tmp_path)), "box").annotation == "box"
    assert list_source(DataConfig(source=str(tmp_path)), "instance").annotation == "instance"


def _without_an_outline(document: dict[str, Any]) -> str:
    del document["annotations"][2]["segmentation"]
    return "annotations[2] without segmentation"


def _with_runs_that_end_early(document: dict[str, Any]) -> str:
    document["annotations"][1]["segmentation"]["counts"] = [3, 4]
    return "annotations[1] with segmentation"


def _with_text_that_is_cut(document: dict[str, Any]) -> str:
    document["annotations"][1]["segmentation"]["counts"] = "Z16>000"
    return "annotations[1] with segmentation"


def _with_two_corners(document: dict[str, Any]) -> str:
    document["annotations"][0]["segmentation"] = [[1, 2, 3, 4]]
    return "annotations[0] with segmentation"


def _without_a_size(document: dict[str, Any]) -> str:
    del document["images"][0]["height"]
    return "without height and width"


@pytest.mark.parametrize(
    "spoil",
    [_without_an_outline, _with_runs_that_end_early, _with_text_that_is_cut, _with_two_corners, _without_a_size],
)
def test_what_is_wrong_is_named(spoil: Any, tmp_path: Path) -> None:
    file = write_coco_masks(tmp_path, MADE[:4]) / "instances.json"
    document = json.loads(file.read_text())
    named = spoil(document)
    file.write_text(json.dumps(document))
    with pytest.raises(DataError) as error:
        list_source(DataConfig(source=str(tmp_path)), "instance")
    assert named in str(error.value)
    assert "instances.json" in str(error.value)


def test_masks_of_another_size_are_refused_with_the_file(tmp_path: Path) -> None:
    source = write_numbered(tmp_path, MADE)
    Image.fromarray(np.ones((16, 48), np.uint16)).save(tmp_path / "masks" / "004.png")
    with pytest.raises(DataError, match=r"004\.png[\s\S]*16 × 48"):
        _load(source)


def test_converted_masks_are_the_same(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "data", MADE)
    written = convert_data(source, "coco", tmp_path / "coco")
    assert written.lost == ()
    before, after = _by_stem(_load(source)), _by_stem(_load(written.data))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[stem], after[stem]) for stem in before)
    lost = convert_data(source, "yolo", tmp_path / "yolo").lost
    assert any("masks: written as the boxes around them" in one for one in lost)


def _codes(source: Path) -> set[str]:
    return {finding.code for finding in check_data(source).findings if finding.code.startswith("data.object")}


def test_faults_of_objects_are_found(tmp_path: Path) -> None:
    rows = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)

    def numbers(k: int) -> np.ndarray:
        """Stripes, one object each: so many that nobody has to say what they are."""
        return np.minimum(rows // (2 * SIZE[1]) * 2 + rows % SIZE[1] // 24, 22 + k % 6).astype(np.uint16)

    made = [(image, numbers(k)) for k, (image, _) in enumerate(made_disks(12))]
    assert _codes(write_numbered(tmp_path / "healthy", made)) == set()
    for _, mask in made[:4]:
        mask[mask == 9] = 2  # two stripes under one number, and one that is left out
        mask[mask == int(mask.max())] = 9
    assert "data.object-pieces" in _codes(write_numbered(tmp_path / "pieces", made))
    for k, (_, mask) in enumerate(made):
        mask[...] = numbers(k)
        mask[mask == 3] = 0
        mask[2, 30] = 3
    assert _codes(write_numbered(tmp_path / "fragments", made)) == {"data.object-fragments"}


def test_masks_of_named_classes_have_no_objects(tmp_path: Path) -> None:
    source = write_numbered(tmp_path / "data", MADE)
    (source / "classes.txt").write_text("background\nleaf\nstone\nsnail\nmoss\n")
    for annotation in ("box", "instance"):
        with pytest.raises(DataError, match=r"classes\.txt names background") as refused:
            list_source(DataConfig(source=str(source)), annotation)
        assert f"striate train {source} learns the classes" in refused.value.remedy
    with pytest.raises(DataError, match="values are classes"):
        convert_data(source, "coco", tmp_path / "coco")


def test_few_numbers_without_names_may_be_objects(tmp_path: Path) -> None:
    source = write_numbered(tmp_path, MADE)
    found = [finding for finding in check_data(source).findings if finding.code == "data.objects"]
    before = [one for one in load_dataset(DataConfig(source=str(source))).findings if one.code == "data.objects"]
    assert [one.severity for one in (*found, *before)] == ["note", "note"]
    assert "--task instances" in found[0].remedy
    (tmp_path / "classes.txt").write_text("background\nleaf\nstone\nsnail\nmoss\n")
    assert not any(finding.code == "data.objects" for finding in check_data(source).findings)
