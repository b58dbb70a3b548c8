"""Boxes as people have them: each layout says the same, and what is wrong is named with its line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from made_boxes import CLASSES, LAYOUTS, made_images, save, split_of, write_coco, write_table, write_voc, write_yolo
from striate.data.annotations.boxes import CLASS, CROWD, Boxes, clip_boxes
from striate.data.box_records import Box, ImageBoxes
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.media.image.fitting import placement
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import DataError


def _read(source: Path, **options: object) -> Dataset:
    return load_dataset(DataConfig(source=str(source), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("layout", sorted(LAYOUTS))
def test_each_layout_says_the_same(layout: str, tmp_path: Path) -> None:
    made = made_images(12)
    data = _read(LAYOUTS[layout](tmp_path, made), size=(32, 40))
    assert data.annotation == "box"
    assert data.classes == CLASSES
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 6, "val": 3, "test": 3}
    for name, split in data.splits.items():
        numbers = [int(Path(path).stem) for path in data.facts[name].paths]
        assert all(split_of(number) == name for number in numbers)
        for number, rows in zip(numbers, split.targets.numpy(), strict=True):
            found = [(*map(round, row[:4].tolist()), CLASSES[int(row[CLASS])]) for row in rows if row[CLASS] >= 0]
            assert sorted(found) == sorted(made[number][1])
    assert any("without objects: used as background" in note for note in data.notes)
    assert data.annotated.startswith("1")
    assert not data.findings, "nothing is left over or wrong"


def test_crowds_are_kept(tmp_path: Path) -> None:
    made = made_images(12)
    data = _read(write_coco(tmp_path, made, crowd=True), size=(32, 40))
    crowds = sum(float((split.targets[..., CROWD] > 0).sum()) for split in data.splits.values())
    assert crowds == sum(len(boxes) == 2 for _, boxes in made)


def test_coco_files_without_annotations_are_of_background(tmp_path: Path) -> None:
    source = write_coco(tmp_path, made_images(12))
    file = source / "annotations" / "instances_test.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"annotations": []}))
    train = source / "annotations" / "instances_train.json"
    document = json.loads(train.read_text())
    document["annotations"][1]["id"] = document["annotations"][0]["id"]
    document["categories"].append({"id": 1, "name": CLASSES[0]})  # a group, of which no object is
    train.write_text(json.dumps(document))
    listing = list_source(DataConfig(source=str(source)))
    assert len(listing) == 12
    assert not any(one.boxes for one, split in zip(listing.boxes, listing.given, strict=True) if split == "test")
    assert listing.notes[0].startswith("1 annotation with the id of another annotation")
    assert sorted(listing.classes) == sorted(CLASSES)


def test_voc_that_counts_from_zero_is_taken_as_written(tmp_path: Path) -> None:
    file = write_voc(tmp_path, made_images(8)) / "Annotations" / "000.xml"
    written = re.sub("<xmin>.*</ymin>", "<xmin>0</xmin><ymin>3</ymin>", file.read_text(), count=1)
    for text, edges, noted in (
        (written, (0, 3), True),
        (written.replace(">0<", ">1<", 1), (0, 2), False),
        (re.sub("<xmax>.*</xmax>", "<xmax>-60</xmax>", written), (0, 3), False),
    ):
        file.write_text(text)
        listing = list_source(DataConfig(source=str(tmp_path)))
        assert listing.boxes[0].boxes[0].edges[:2] == edges
        assert any("counted from 0" in note for note in listing.notes) == noted


def test_images_in_the_lists_of_voc_without_an_annotation_are_noted(tmp_path: Path) -> None:
    file = write_voc(tmp_path, made_images(8)) / "ImageSets" / "Main" / "train.txt"
    file.write_text(file.read_text() + "999\n")
    listing = list_source(DataConfig(source=str(tmp_path)))
    assert "1 image in the lists of ImageSets/Main without an .xml: 999." in listing.notes


def test_outlines_of_yolo_are_read_as_the_boxes_around_them(tmp_path: Path) -> None:
    file = write_yolo(tmp_path, made_images(8)) / "labels" / "train" / "000.txt"
    file.write_text("1 0.1 0.2 0.5 0.3 0.4 0.9\n")
    listing = list_source(DataConfig(source=str(tmp_path)))
    assert listing.boxes[listing.paths.index("images/train/000.png")].boxes[0].edges == (0.1, 0.2, 0.5, 0.9)
    assert "Outlines are not read" in listing.notes[0]


def test_words_in_names_of_images_are_no_splits(tmp_path: Path) -> None:
    made = made_images(8)
    source = write_yolo(tmp_path, made)
    for folder in ("images", "labels"):
        for file in sorted((source / folder).rglob("*.*")):
            file.rename(source / folder / f"test_{file.name}")
    assert set(list_source(DataConfig(source=str(source))).given) == {None}


@pytest.mark.parametrize("missing", ["y_max,", "x_min,y_min,"])
def test_some_edges_of_boxes_are_refused_unless_classes_are_asked_for(missing: str, tmp_path: Path) -> None:
    made = made_images(8)
    path = write_table(tmp_path, made)
    header = "path,x_min,y_min,x_max,y_max,label".replace(missing, "")
    path.write_text(
        f"{header}\n" + "".join(f"{number:03}.png{',1' * (header.count(',') - 1)},cell\n" for number in range(8))
    )
    with pytest.raises(DataError, match="add the column"):
        list_source(DataConfig(source=str(path)))


def test_columns_of_other_names_are_asked_back(tmp_path: Path) -> None:
    path = write_table(tmp_path, made_images(8))
    given = path.read_text()
    path.write_text(given.replace("x_min,y_min,x_max,y_max", "x1,y1,x2,y2"))
    assert list_source(DataConfig(source=str(path))).annotation == "box"
    text = given.replace("path,x_min,y_min,x_max,y_max,label", "filename,xmin,ymin,xmax,ymax,class")
    path.write_text(text)
    with pytest.raises(DataError, match="path=filename,label=class"):
        list_source(DataConfig(source=str(path)))
    names = "path=filename,label=class"
    assert list_source(DataConfig(source=str(path), names=names)).classes == CLASSES


def test_boxes_lie_where_the_padded_image_does(tmp_path: Path) -> None:
    made = made_images(12)
    data = _read(write_table(tmp_path, made), size=(64, 64))
    assert data.preparation.fit == "pad", "a center crop would cut objects off"
    row = data.splits["train"].targets[0]
    placed = placement((32, 40), (64, 64), "pad")
    number = int(Path(data.facts["train"].paths[0]).stem)
    expected = placed.boxes(np.array([box[:4] for box in made[number][1]], float))
    assert row[: len(expected), :4].numpy() == pytest.approx(expected, abs=1 / 256)
    assert placed.boxes_in_file(expected) == pytest.approx(np.array([box[:4] for box in made[number][1]]))


def test_boxes_that_leave_the_image_are_clipped_or_dropped() -> None:
    boxes = np.array(
        [[-4, 0, 4, 8], [-7, 0, 1, 8], [2, 2, 2, 6], [6, 4, 4, 6], [30, 2, 36, 6], [-1, -1, 33, 33]], float
    )
    clipped, kept = clip_boxes(boxes, 32, 32)
    assert kept.tolist() == [True, False, False, False, True, True]
    assert clipped[0].tolist() == [0, 0, 4, 8]


@pytest.mark.slow
def test_the_size_follows_from_small_boxes(tmp_path: Path) -> None:
    made = made_images(12, size=(400, 800))
    data = _read(write_table(tmp_path, made))
    assert data.input_shape[1:] == (320, 640), "boxes of 8 to 12 pixels: as large as inputs may be"
    assert any("9 in 10 boxes" in note for note in data.notes)


def test_pictures_of_several_shapes_have_square_inputs() -> None:
    """A wide picture and a tall one come to the same scale; a few of another shape change nothing."""
    listing: Any = SimpleNamespace(boxes=[ImageBoxes((Box((9, 9, 25, 25), "a"),), "boxes.csv")] * 10)
    wide, tall = (400, 500), (500, 400)
    for shapes, size in (([wide] * 5 + [tall] * 5, (496, 496)), ([wide] * 9 + [tall], (400, 496))):
        found = Boxes().choose_size(listing, dict(enumerate(shapes)))
        assert found is not None
        assert found[0] == size


def _without_a_number(folder: Path) -> tuple[str, ...]:
    path = write_table(folder, made_images(8))
    lines = path.read_text().splitlines()
    lines[2] = ",".join("many" if place == 1 else field for place, field in enumerate(lines[2].split(",")))
    path.write_text("\n".join(lines) + "\n")
    return ("boxes.csv", "line 3", "many")


def _without_a_name(folder: Path) -> tuple[str, ...]:
    write_voc(folder, made_images(8))
    file = folder / "Annotations" / "000.xml"
    file.write_text(file.read_text().replace("<xmin>", "<xmin>x", 1))
    return ("000.xml", "line 4", "xmin x")


def _with_another_class(folder: Path) -> tuple[str, ...]:
    write_yolo(folder, made_images(8))
    file = folder / "labels" / "train" / "000.txt"
    file.write_text(file.read_text() + "9 0.5 0.5 0.1 0.1\n")
    return ("000.txt", "class 9", "0 to 1")


def _with_another_category(folder: Path) -> tuple[str, ...]:
    write_coco(folder, made_images(8))
    file = folder / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["category_id"] = 70
    file.write_text(json.dumps(document))
    return ("instances_val.json", "annotations[0]", "70")


def _with_a_damaged_split(folder: Path) -> tuple[str, ...]:
    """Cut off before its first key, so that it does not look like COCO."""
    write_coco(folder, made_images(8))
    file = folder / "annotations" / "instances_val.json"
    file.write_bytes(file.read_bytes()[:5])
    return ("instances_val.json", "no JSON")


def _with_a_word(folder: Path) -> tuple[str, ...]:
    write_yolo(folder, made_images(8))
    file = folder / "labels" / "train" / "000.txt"
    file.write_text(file.read_text().replace("0.", "a.", 1))
    return ("000.txt", "line 1", "a.")


def _with_a_class_below_zero(folder: Path) -> tuple[str, ...]:
    write_yolo(folder, made_images(8))
    (folder / "data.yaml").unlink()
    file = folder / "labels" / "train" / "000.txt"
    file.write_text(f"-1 0.5 0.5 0.1 0.1\n{file.read_text()}")
    return ("000.txt", "line 1", "-1 0.5")


def _with_texts_for_numbers(folder: Path) -> tuple[str, ...]:
    return _with_changed(folder, lambda document: document["annotations"][0].update(bbox=["1", "2", "3", "4"]))


def _without_a_box(folder: Path) -> tuple[str, ...]:
    return (*_with_changed(folder, lambda document: document["annotations"][0].pop("bbox")), "without bbox")


def _with_an_entry_that_is_none(folder: Path) -> tuple[str, ...]:
    return (*_with_changed(folder, lambda document: document["annotations"].insert(0, 5)), "not an object")


def _with_a_list_for_an_image(folder: Path) -> tuple[str, ...]:
    named = _with_changed(folder, lambda document: document["annotations"][0].update(image_id=[1]))
    return (*named, "image_id [1]")


def _with_one_name_twice(folder: Path) -> tuple[str, ...]:
    _with_changed(folder, lambda document: document["categories"][1].update(name=CLASSES[0]))
    return ("instances_train.json", "categories 7 and 8", "disk")


def _with_changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> tuple[str, ...]:
    write_coco(folder, made_images(8))
    file = folder / "annotations" / "instances_train.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))
    return ("instances_train.json", "annotations[0]")


def _without_its_image(folder: Path) -> tuple[str, ...]:
    write_coco(folder, made_images(8))
    (folder / "train" / "001.png").unlink()
    return ("001.png", "missing")


def _with_an_entity(folder: Path) -> tuple[str, ...]:
    write_voc(folder, made_images(8))
    file = folder / "Annotations" / "001.xml"
    file.write_text('<!DOCTYPE a [<!ENTITY b "c">]>\n' + file.read_text())
    return ("001.xml", "entity")


@pytest.mark.parametrize(
    "spoil",
    [
        _without_a_number,
        _without_a_name,
        _with_another_class,
        _with_another_category,
        _with_a_damaged_split,
        _with_a_word,
        _with_a_class_below_zero,
        _with_texts_for_numbers,
        _without_a_box,
        _with_an_entry_that_is_none,
        _with_a_list_for_an_image,
        _with_one_name_twice,
        _without_its_image,
        _with_an_entity,
    ],
)
def test_what_is_wrong_is_named(spoil: Callable[[Path], tuple[str, ...]], tmp_path: Path) -> None:
    named = spoil(tmp_path)
    source = tmp_path / "boxes.csv" if (tmp_path / "boxes.csv").exists() else tmp_path
    with pytest.raises(DataError) as error:
        list_source(DataConfig(source=str(source)))
    for part in named:
        assert part in str(error.value)


def test_masks_and_boxes_are_asked_back(tmp_path: Path) -> None:
    made = made_images(8)
    write_voc(tmp_path, made)
    for number in range(8):
        save(made[number][0][..., 0] // 64, tmp_path / "SegmentationClass" / f"{number:03}.png")
    with pytest.raises(DataError, match="--task detect"):
        list_source(DataConfig(source=str(tmp_path)))
    assert list_source(DataConfig(source=str(tmp_path)), "box").annotation == "box"


def test_masks_that_number_objects_have_boxes(tmp_path: Path) -> None:
    made = made_images(8)
    for number, (image, boxes) in enumerate(made):
        save(image, tmp_path / "images" / f"{number:03}.png")
        mask = np.zeros(image.shape[:2], np.uint16)
        for place, (x0, y0, x1, y1, _) in enumerate(boxes):
            mask[y0:y1, x0:x1] = 300 + place
        save(mask, tmp_path / "masks" / f"{number:03}.png")
    listing = list_source(DataConfig(source=str(tmp_path)), "box")
    for path, boxed in zip(listing.paths, listing.boxes, strict=True):
        found = [tuple(map(int, box.edges)) for box in boxed.boxes]
        assert found == [box[:4] for box in made[int(Path(path).stem)][1]]
    assert listing.classes == ("object",)


def test_the_folder_of_a_table_is_read_as_the_table(tmp_path: Path) -> None:
    table = write_table(tmp_path / "data", made_images(8))
    for annotation in (None, "box", "labels"):
        listing, same = (list_source(DataConfig(source=str(path)), annotation) for path in (tmp_path / "data", table))
        assert listing.boxes == same.boxes
        assert (listing.annotation, listing.labels, listing.given) == (same.annotation, same.labels, same.given)
    (tmp_path / "data" / "more").mkdir()
    save(made_images(1)[0][0], tmp_path / "data" / "more" / "1.png")
    assert list_source(DataConfig(source=str(tmp_path / "data")), "box").annotation == "box"
    found = list_source(DataConfig(source=str(tmp_path / "data")))
    assert found.annotation == "class", "the names of several folders may be classes"
