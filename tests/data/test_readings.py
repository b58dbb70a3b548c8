"""What is read in one way and may be meant in another is said, with the option that reads it so."""

import shlex
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from striate.api import check_data
from striate.data.audit.readings import find_readings
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources.list_source import list_source
from striate.data.sources.npz import npz_inputs
from striate.errors import ConfigError, DataError

Y = np.arange(12) % 2


def arrays(path, **named):
    np.savez(path, **named)
    return DataConfig(source=str(path))


def table(path, header, *rows, pictures=12):
    for k in range(pictures):
        (path.parent / "im").mkdir(parents=True, exist_ok=True)
        Image.new("L", (6, 6), k).save(path.parent / "im" / f"p{k}.png")
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return DataConfig(source=str(path))


# Order of axes


@pytest.mark.parametrize(
    ("shape", "axes", "other", "words"),
    [
        ((30, 30, 30), "NDHW", "NCHW", "volumes of 30×30×30 in 1 channel"),
        ((9, 8, 8), "NCHW", "NDHW", "maps of 8×8 in 9 channels"),
        ((16, 16, 9), "NHWC", "NCHW", "maps of 16×16 in 9 channels"),
        ((1, 80), "NCL", "NHW", "signals of 80 in 1 channel"),
        ((128, 9), "NLC", "NHW", "signals of 128 in 9 channels"),
    ],
)
def test_a_doubtful_order_of_axes_is_named_with_its_alternative(tmp_path, shape, axes, other, words):
    x = np.random.default_rng(0).normal(size=(12, *shape)).astype("f")
    config = arrays(tmp_path / "d.npz", x=x, y=Y)
    data = load_dataset(config)
    assert data.inputs_in_words == f"{words}, read as {axes}"
    found = next(finding for finding in data.findings if finding.code == "data.layout")
    assert found.remedy.settings == {"data.layout": other}
    certain = load_dataset(DataConfig(source=config.source, layout=axes))
    assert "data.layout" not in [finding.code for finding in certain.findings]
    assert certain.input_shape == data.input_shape
    assert load_dataset(DataConfig(source=config.source, layout=other)).inputs_in_words.endswith(other)


@pytest.mark.parametrize(
    ("shape", "words"), [((3, 4, 5, 6), "volumes of 4×5×6 in 3 channels"), ((5,), "rows of 5 fea")]
)
def test_what_is_certain_is_not_doubted(tmp_path, shape, words):
    config = arrays(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(12, *shape)), y=Y)
    data = load_dataset(config)
    assert data.inputs_in_words.startswith(words)
    assert "data.layout" not in [finding.code for finding in data.findings]
    assert words in check_data(config.source).inputs


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ((12, 6, 7), (12,)),
        ((12, 6, 7, 3), (12,)),
        ((12, 3, 6, 7), (12,)),
        ((12, 4, 5, 6, 7), (12,)),
        ((12, 5, 6, 7), (12, 5, 6, 7)),
        ((12, 9, 9, 9), (12,)),
        ((12, 4, 40), (12, 4, 40)),
        ((12, 4, 40), (12,)),
    ],
)
def test_samples_of_the_training_data_are_read_as_in_training(tmp_path, x, y):
    values = np.random.default_rng(0).integers(0, 256, x, np.uint8)
    targets = np.broadcast_to(Y.reshape(-1, *[1] * (len(y) - 1)), y)
    config = arrays(tmp_path / "d.npz", x=values, y=targets)
    found = npz_inputs(tmp_path / "d.npz", load_dataset(config).preparation)
    assert np.array_equal(list(found.values()), list_source(config).inputs)


# Names of arrays


@pytest.mark.parametrize(
    ("x", "y"), [("X", "y"), ("images", "labels"), ("X_train", "Y_train"), ("train_images", "train_labels")]
)
def test_usual_names_of_arrays_are_understood_and_said(tmp_path, x, y):
    listing = list_source(arrays(tmp_path / "d.npz", **{x: np.zeros((12, 5)), y: Y}))
    assert len(listing) == 12
    assert f"{x} as " in listing.notes[0]
    assert not listing.ignored


def test_other_names_of_arrays_are_asked_back(tmp_path):
    config = arrays(tmp_path / "d.npz", diagnosis=Y, scans=np.zeros((12, 5, 5)))
    with pytest.raises(DataError, match=r"scans of shape \(12, 5, 5\)") as caught:
        list_source(config)
    listing = list_source(DataConfig(source=config.source, **_names(caught.value.remedy)))
    assert len(listing) == 12
    with pytest.raises(ConfigError, match="one of"):
        list_source(DataConfig(source=config.source, names="x=scan,y=diagnosis"))


def _names(remedy):
    settings = getattr(remedy, "settings", {})
    return {name.removeprefix("data."): value for name, value in settings.items()}


# Tables


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("filename,species", "im/p{}.png,{}"),
        ("id,when,kind,photo", "7,monday,{1},im/p{0}.png"),
        ("Image;Class", "im/p{}.png;{}"),
    ],
)
def test_other_columns_are_asked_back_with_the_option_that_names_them(tmp_path, header, row):
    config = table(tmp_path / "t.csv", header, *(row.format(k, "ab"[k % 2]) for k in range(12)))
    with pytest.raises(DataError) as caught:
        list_source(config)
    assert "--data.names" in caught.value.remedy
    assert list_source(DataConfig(source=config.source, **_names(caught.value.remedy))).classes == ("a", "b")


def test_a_column_of_0_and_1_for_each_class_gets_a_remedy_that_works(tmp_path):
    rows = [(f"im/p{k}.png", k % 2, 1 - k % 2) for k in range(12)]
    with pytest.raises(DataError, match="a column of 0 and 1 for each class") as caught:
        list_source(table(tmp_path / "t.csv", "path,cat,dog", *(f"{path},{a},{b}" for path, a, b in rows)))
    assert "label (cat), or labels (cat|dog)" in caught.value.remedy
    labels = (f"{path},{'cat' if a else 'dog'}" for path, a, _ in rows)
    assert list_source(table(tmp_path / "t.csv", "path,label", *labels)).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("header", "row", "without", "targets"),
    [
        ("age,income,cat,dog", "{0},{1},{3},{4}", "", ("cat", "dog")),
        ("age,city,income,label", "{},ulm,{}.5,{}", ", without city", ("a", "b")),
        ("a;b;c", "{};{};{}", "", ("a", "b")),
        ("Weight,Height,price", "{},{},{}.25", "", ("y",)),
    ],
)
def test_a_table_of_features_is_saved_as_arrays_by_the_command_that_is_told(tmp_path, header, row, without, targets):
    numbers = "price" in header
    config = table(
        tmp_path / "t.csv",
        header,
        *(row.format(k, k * k, k if numbers else "ab"[k % 2], k % 2, 1 - k % 2) for k in range(12)),
    )
    with pytest.raises(DataError) as caught:
        list_source(config)
    assert "a table of features" in caught.value.got
    said, _, command = caught.value.remedy.partition(": ")
    assert said == f"save its numbers as arrays{without}"
    code, _, train = command.removeprefix("python ").partition(" && ")
    subprocess.run([sys.executable, *shlex.split(code)], check=True)
    found = list_source(DataConfig(source=shlex.split(train)[-1]))
    assert (found.classes or found.target_names) == targets
    assert found.inputs.tolist()[3] == [3.0, 9.5 if without else 9.0]


def test_a_column_that_occurs_twice_is_named(tmp_path):
    config = table(tmp_path / "t.csv", "path,label,Label", *(f"im/p{k}.png,a,b" for k in range(12)))
    with pytest.raises(DataError, match="the column label twice in the header"):
        list_source(config)


def test_a_table_without_a_header_is_told_to_begin_with_one(tmp_path):
    config = table(tmp_path / "t.csv", *(f"im/p{k}.png,{'ab'[k % 2]}" for k in range(12)))
    with pytest.raises(DataError) as caught:
        list_source(config)
    assert caught.value.got == "no header: the first line is the row im/p0.png and a"
    assert "begin the file with the line path,label" in caught.value.remedy


@pytest.mark.parametrize(
    ("annotation", "header", "remedy"),
    [
        ("caption", "path", "path,caption or path,caption,split"),
        ("labels", "path", "path,labels or path,labels,split"),
        (None, "path", "path,label or path,label,split"),
        ("class", "path,caption", "to learn the captions: --task caption"),
        ("class", "path,caption,species", "--data.names label=species"),
        ("caption", "path,text", "--data.names caption=text"),
        ("labels", "path,tags", "--data.names labels=tags"),
    ],
)
def test_a_table_without_the_column_of_its_task_is_told_which(tmp_path, annotation, header, remedy):
    rows = (",".join([f"im/p{k}.png", "a", "b"][: header.count(",") + 1]) for k in range(12))
    config = table(tmp_path / "t.csv", header, *rows)
    with pytest.raises(DataError) as caught:
        list_source(config, annotation)
    assert remedy in caught.value.remedy
    if names := _names(caught.value.remedy):
        assert len(list_source(replace(config, names=names.get("names")), names.get("task.name", annotation))) == 12


@pytest.mark.parametrize("sign", [";", "\t"])
def test_semicolons_and_tabs_separate_too(tmp_path, sign):
    rows = (f"im/p{k}.png{sign}{'ab'[k % 2]}{sign}1,5" for k in range(12))
    listing = list_source(table(tmp_path / "t.csv", sign.join(("path", "label", "weight")), *rows))
    assert listing.classes == ("a", "b")
    assert listing.columns["weight"][0] == "1,5"


def test_backslashes_are_read_as_windows_means_them(tmp_path):
    listing = list_source(table(tmp_path / "t.csv", "path,label", "im\\p0.png,a", "im\\p1.png,b"))
    assert listing.paths == ("im/p0.png", "im/p1.png")
    assert any("Backslashes" in note for note in listing.notes)


def test_names_of_files_in_a_folder_beside_the_table_say_where(tmp_path):
    with pytest.raises(DataError) as caught:
        list_source(table(tmp_path / "t.csv", "path,label", "p0.png,a"))
    assert caught.value.remedy == f"cp {tmp_path}/t.csv {tmp_path}/im/ && striate train {tmp_path}/im/t.csv"


@pytest.mark.parametrize("header", ["image,caption", "path,nose_x,eye_y"])
def test_tables_of_other_tasks_are_named(tmp_path, header):
    with pytest.raises(DataError, match=r"path besides caption|named points"):
        list_source(table(tmp_path / "t.csv", header, ",".join(["im/p0.png", *"1" * header.count(",")])))


def test_a_spreadsheet_is_named_with_what_to_save_it_as(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="a spreadsheet") as caught:
        list_source(DataConfig(source=str(tmp_path / "t.xlsx")))
    assert f"striate train {tmp_path}/t.csv" in caught.value.remedy


# Labels


def said(config):
    return [(finding.severity, finding.measured) for finding in find_readings(list_source(config))]


@pytest.mark.parametrize(
    ("header", "labels", "words"),
    [
        ("path,label", ["a|b", "c"] * 6, "1 class has | in the name: a|b"),
        ("path,label,label2", ["a,x", "b,y"] * 6, "1 further column of labels: label2"),
    ],
)
def test_several_labels_a_picture_are_said(tmp_path, header, labels, words):
    rows = (f"im/p{k}.png,{label}" for k, label in enumerate(labels))
    assert said(table(tmp_path / "t.csv", header, *rows)) == [("warning", words)]


def test_ages_as_classes_say_how_to_learn_them_as_numbers(tmp_path):
    x, ages = np.zeros((60, 5)), np.arange(60)
    (finding,) = find_readings(list_source(arrays(tmp_path / "d.npz", x=x, y=ages)))
    assert finding.remedy.settings == {"task.name": "regress"}
    assert "60 classes that are whole numbers from 0 to 59" in finding.measured
    assert said(arrays(tmp_path / "ten.npz", x=x, y=ages % 10)) == []


@pytest.mark.parametrize(
    ("odd", "words", "remedy"),
    [
        (
            "old",
            "31 classes that are numbers, except for old",
            "a quantity: correct the label 'old' of im/p1.png, and: -",
        ),
        ('"3,25"', "31 classes that are numbers from 0.5 to 9.5", "a quantity: write them with a decimal point"),
    ],
)
def test_numbers_that_are_classes_for_one_that_is_none_say_so(tmp_path, odd, words, remedy):
    rows = [f"im/p{k % 12}.png,{k + 0.5}" for k in range(30)]
    (finding,) = find_readings(list_source(table(tmp_path / "t.csv", "path,label", *rows, f"im/p1.png,{odd}")))
    assert (finding.code, finding.severity) == ("data.reading", "warning")
    assert finding.measured.startswith(words)
    assert remedy in finding.remedy


def test_few_classes_that_are_fractions_are_a_quantity_too(tmp_path):
    rows = [f"im/p{k}.png,{k % 6}.5" for k in range(11)]
    (finding,) = find_readings(list_source(table(tmp_path / "t.csv", "path,label", *rows, "im/p11.png,old")))
    assert "7 classes that are numbers, except for old" in finding.measured
    whole = [f"im/p{k}.png,{k % 6}" for k in range(12)]
    assert said(table(tmp_path / "whole.csv", "path,label", *whole)) == []
    commas = [f"im/p{k}.png;{k},5" for k in range(12)]
    with pytest.raises(DataError, match=", none of them in val") as caught:
        load_dataset(table(tmp_path / "commas.csv", "path;label", *commas))
    assert "write them with a decimal point, 0.5 for 0,5, and: --task regress" in caught.value.remedy


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.eye(3)[np.arange(12) % 3], "one 1 in each row"),
        (Y.astype(float), "all targets are the numbers 0 or 1"),
    ],
)
def test_labels_of_0_and_1_as_numbers_are_said(tmp_path, y, words):
    (finding,) = find_readings(list_source(arrays(tmp_path / "d.npz", x=np.zeros((12, 5)), y=y), "number"))
    assert finding.severity == "warning"
    assert words in finding.measured
    assert finding.remedy.settings == {"task.name": "classify"}


def test_targets_are_named_with_their_range_and_whole_ones_may_be_classes(tmp_path):
    x, k = np.arange(60.0).reshape(12, 5), np.arange(12)
    for y, others in ((k % 2 + 1.0, True), (k / 2, False), (k % 2 * 3.0, False), (k * 1.0, False)):
        source = arrays(tmp_path / "d.npz", x=x, y=y)
        assert load_dataset(source).annotated == f"1 number per sample: y ({y.min():g} to {y.max():g})"
        found = find_readings(list_source(source))
        assert [(f.severity, f.remedy.settings) for f in found] == [("note", {"task.name": "classify"})] * others


@pytest.mark.parametrize(
    ("row", "remedy"),
    [
        ("im/p11.png", "add the missing fields (an empty one needs its comma), or leave the row out"),
        ("im/p11.png,a,b", "put a field with a comma in double quotes"),
        ('"im/p11.png,a\nim/p10.png,b', "close the double quote of the field that extends over several lines"),
    ],
)
def test_rows_of_another_length_get_the_remedy_that_fits(tmp_path, row, remedy):
    rows = [f"im/p{k}.png,{'ab'[k % 2]}" for k in range(10)]
    with pytest.raises(DataError) as caught:
        list_source(table(tmp_path / "t.csv", "path,label", *rows, row))
    assert caught.value.remedy == remedy


# Splits


def test_rows_without_a_split_among_others_are_counted(tmp_path):
    counted = ("note", "3 of 12 samples without a split, while others are in train")
    for splits, expected in ((("train", "", "val", "test"), [counted]), (("", "", "", "test"), [])):
        rows = [f"im/p{k}.png,{'ab'[k % 2]},{splits[k % 4]}" for k in range(12)]
        assert said(table(tmp_path / "t.csv", "path,label,split", *rows)) == expected


# Large pictures


def test_pictures_that_are_too_large_come_with_the_option_that_admits_them(tmp_path):
    for name, size in (("a/1", 6), ("a/2", 6), ("a/3", 6), ("b/1", 6), ("b/2", 6), ("b/3", 6), ("b/4", 40)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.effect_noise((size, size), 50).save(tmp_path / f"{name}.png")
    config = DataConfig(source=str(tmp_path), max_pixels=100)
    found = next(finding for finding in load_dataset(config).findings if finding.code == "data.unreadable")
    assert found.remedy.settings == {"data.max_pixels": "1600"}
    assert found.remedy.startswith("To read")
    (tmp_path / "b" / "5.png").write_bytes(b"")
    found = next(finding for finding in load_dataset(config).findings if finding.code == "data.unreadable")
    assert found.remedy.startswith("Replace the damaged files that matter; to read")
    (tmp_path / "b" / "5.png").unlink()
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig(source=str(tmp_path), max_pixels=10))
    assert caught.value.remedy == "--data.max_pixels 1600"
