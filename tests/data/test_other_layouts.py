"""Layouts of other tasks are named, with what can be done today, and no remedy moves or deletes a file of the user."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_boxes import LAYOUTS, made_images, save
from striate.api import convert_data
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.errors import DataError


def picture(path, values=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(values) if np.ndim(values) else np.full((6, 6), values, np.uint8)).save(path)


def pictures(root, folder="images", count=6):
    for k in range(count):
        picture(root / folder / f"p{k}.png", k)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def refused(path, annotation=None):
    with pytest.raises(DataError) as caught:
        list_source(DataConfig(source=str(path)), annotation)
    return caught.value


def pasted(remedy, folder):
    """Run what a remedy says, all but the training."""
    command = remedy[remedy.index("mkdir") :].rsplit(" && striate train ", 1)
    python = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(["bash", "-ec", command[0]], cwd=folder, check=True, env=python)
    return folder / command[1]


def outlines_of_labelme(root):
    pictures(root)
    write(root / "images" / "p0.json", json.dumps({"shapes": [], "imagePath": "p0.png"}))


def test_outlines_are_named_before_folders_become_classes(tmp_path):
    outlines_of_labelme(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    error = refused(tmp_path)
    assert "outlines as LabelMe writes them" in error.got
    assert f"{tmp_path}/labels.csv" in error.remedy
    assert sorted(tmp_path.rglob("*")) == before


def test_numbers_that_end_in_none_take_no_time(tmp_path):
    pictures(tmp_path)
    write(tmp_path / "images" / "p0.txt", f"0 {'11 ' * 1000}x\n")
    assert list_source(DataConfig(source=str(tmp_path))).classes == ("images",)


def test_who_asks_for_classes_gets_them_of_any_folder(tmp_path):
    outlines_of_labelme(tmp_path)
    pictures(tmp_path, "other")
    assert list_source(DataConfig(source=str(tmp_path)), "class").classes == ("images", "other")


@pytest.mark.parametrize(
    ("images", "masks", "ending"),
    [("PNGImages", "PedMasks", "_mask"), ("imgs", "ground truth", ""), ("JPEGImages", "SegmentationClass", "")],
)
def test_pairs_under_other_names_are_linked_by_the_remedy(tmp_path, images, masks, ending):
    data = tmp_path / "my data"
    pictures(data, images)
    for k in range(5):
        picture(data / masks / f"p{k}{ending}.png", np.arange(6) > k)
    if masks == "SegmentationClass":
        write(data / "Annotations" / "p0.xml", "<annotation><bndbox/></annotation>")
    before = sorted(data.rglob("*"))
    linked = pasted(refused(data).remedy.replace("'my data-masks'", "my-data-masks"), tmp_path)
    found = list_source(DataConfig(source=str(linked)))
    assert found.annotation == "mask"
    assert len(found) == 5
    assert sorted(data.rglob("*")) == before


def test_masks_that_number_objects_are_no_classes(tmp_path):
    data = tmp_path / "cells"
    for k in range(30):
        picture(data / "images" / f"p{k}.png", k)
        picture(data / "masks" / f"p{k}.png", np.minimum(np.arange(36).reshape(6, 6), 5 + k))
    with pytest.raises(DataError, match="they number the objects") as caught:
        load_dataset(DataConfig(source=str(data)), annotation="mask")
    assert list_source(DataConfig(source=str(data))).annotation == "instance"
    linked = pasted(caught.value.remedy, tmp_path)
    assert load_dataset(DataConfig(source=str(linked))).classes == ("0", "1")


def test_classes_without_gaps_stay_classes(tmp_path):
    for k in range(30):
        picture(tmp_path / "images" / f"p{k}.png", k)
        picture(tmp_path / "masks" / f"p{k}.png", np.minimum(np.arange(36).reshape(6, 6), 33 + k % 3))
    assert len(load_dataset(DataConfig(source=str(tmp_path))).classes) == 36


def test_one_folder_of_pictures_beside_a_table_is_read_by_the_table(tmp_path):
    pictures(tmp_path)
    write(tmp_path / "table.csv", "path,label\nimages/p0.png,a\n")
    error = refused(tmp_path)
    assert "table.csv" in error.got
    assert error.remedy == f"striate train {tmp_path}/table.csv"


def test_class_folders_beside_a_table_say_that_it_is_not_read(tmp_path):
    pictures(tmp_path, "cat")
    pictures(tmp_path, "dog")
    write(tmp_path / "table.csv", "path,label,group\ncat/p0.png,a,g\n")
    assert any("table.csv" in note for note in list_source(DataConfig(source=str(tmp_path))).notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("dog/bark.m4a", "ffmpeg"),
        ("fight/one.wmv", "ffmpeg"),
        ("images/scan.nrrd", "scan.nii.gz"),
        ("digits.zip", "striate train"),
    ],
)
def test_files_of_other_media_are_named_with_what_can_be_done(tmp_path, name, words):
    write(tmp_path / name, "x")
    assert words in refused(tmp_path).remedy


def test_an_empty_class_folder_stays_where_it_is(tmp_path):
    data = tmp_path / "pets"
    pictures(data, "cat")
    pictures(data, "dog")
    write(data / "notes" / "a.txt", "hello")
    remedy = refused(data).remedy
    assert "mv " not in remedy
    assert list_source(DataConfig(source=str(pasted(remedy, tmp_path)))).classes == ("cat", "dog")


def test_images_without_masks_are_left_out_by_links(tmp_path):
    data = tmp_path / "data"
    pictures(data)
    for k in range(4):
        picture(data / "masks" / f"p{k}.png", np.arange(6) > k)
    assert len(list_source(DataConfig(source=str(pasted(refused(data).remedy, tmp_path))))) == 4


def test_classes_with_files_of_the_same_names_are_classes(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("target", "other"):
        for k in range(6):
            picture(tmp_path / name / f"{k}.png", rng.integers(0, 255, (32, 32)))
    assert list_source(DataConfig(source=str(tmp_path)), None).classes == ("other", "target")


@pytest.mark.parametrize(("layout", "task"), [("coco", "point"), ("csv", "mask"), ("yolo", "mask"), ("voc", "point")])
def test_another_task_is_told_which_annotations_there_are(layout: str, task: str, tmp_path: Path) -> None:
    source = LAYOUTS[layout](tmp_path / "data", made_images(8))
    with pytest.raises(DataError, match="boxes as annotations") as refused:
        list_source(DataConfig(source=str(source)), task)
    assert "--task detect" in refused.value.remedy


def test_a_folder_of_points_is_no_folder_of_boxes(tmp_path: Path) -> None:
    save(made_images(1)[0][0], tmp_path / "data" / "img" / "1.png")
    (tmp_path / "data" / "points.csv").write_text("path,x1,y1\nimg/1.png,3,4\n")
    with pytest.raises(DataError, match="points as annotations") as refused:
        list_source(DataConfig(source=str(tmp_path / "data")), "box")
    assert "--task keypoints" in refused.value.remedy
    with pytest.raises(DataError, match="points as annotations") as refused:
        convert_data(tmp_path / "data", "coco", tmp_path / "coco")
    assert "--task" not in refused.value.remedy, "the conversion has no such option"
