import os
import shutil
from pathlib import Path

import pytest
import torch

from made_data import picture
from striate.api import check_data
from striate.data.config import DataConfig
from striate.data.dataset import Preparation
from striate.data.materialize import Room
from striate.data.predict_inputs import list_inputs, read_inputs
from striate.data.read import load_dataset
from striate.errors import ConfigError, DataError


def load(path, annotation=None, **fields):
    return load_dataset(DataConfig(source=str(path), **fields), annotation=annotation)


def folder(root, per_class=6, classes=("cat", "dog"), **options):
    for k, name in enumerate(classes):
        for i in range(per_class):
            picture(root / name / f"{i}.png", 20 * k + i, **options)
    return root


def finding(data, code):
    (found,) = [f for f in data.findings if f.code == code]
    return found


# What is decided


def test_the_commonest_size_and_color_are_chosen_and_said(tmp_path):
    folder(tmp_path)
    picture(tmp_path / "cat" / "big.png", 99, (30, 20))
    picture(tmp_path / "dog" / "color.png", (9, 8, 7), mode="RGB")
    data = load(tmp_path)
    assert data.input_shape == (3, 4, 6)
    assert data.notes[:2] == (
        "Size: 4 × 6 pixels (height × width), the most common of 2 sizes (13 of 14 images).",
        "Channels: 3 (RGB), since 1 of 14 images has color.",
    )
    assert finding(data, "data.resized").measured == "1 of 14 images is scaled to 4 × 6 pixels"
    gray = load(tmp_path, channels=1)
    assert gray.input_shape == (1, 4, 6)
    assert "Color is dropped: 1 of 14" in gray.notes[1]


def test_of_two_sizes_equally_common_the_larger(tmp_path):
    folder(tmp_path, 3)
    for name in ("cat", "dog"):
        for i in range(3):
            picture(tmp_path / name / f"l{i}.png", 100 + i, (8, 5))
    assert load(tmp_path).input_shape == (1, 5, 8)


def test_a_given_size_holds_for_files_and_arrays(tmp_path):
    assert load(folder(tmp_path), size=(5, 7)).input_shape == (1, 5, 7)
    digits = load("digits", size=(16, 12), channels=3)
    assert digits.splits["train"].inputs.shape[1:] == (3, 16, 12)


def test_size_and_channels_belong_to_images():
    with pytest.raises(ConfigError, match=r"data\.size"):
        load("iris", size=(4, 4))
    with pytest.raises(ConfigError, match=r"data\.channels"):
        load("boston", channels=1)


def test_a_size_that_does_not_fit_into_memory_is_refused_where_memory_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr("striate.data.materialize.measure_room", lambda _: Room(40_960, 40_960, 0))
    with pytest.raises(DataError, match=r"--data\.store auto, or --size 41x41"):
        load(folder(tmp_path), size=(100, 100), store="memory")
    assert load(folder(tmp_path), size=(41, 41), store="memory").store == "memory"


# What is noticed


def test_unreadable_files_are_rows_and_a_finding(tmp_path):
    folder(tmp_path, 8)
    whole = (tmp_path / "cat" / "0.png").read_bytes()
    for i in range(7):
        (tmp_path / "cat" / f"bad{i}.jpg").write_bytes(b"a text file" if i else whole[: len(whole) // 2])
    data = load(tmp_path)
    assert sum(row.split == "unreadable" for row in data.rows) == 7
    assert sum(len(split) for split in data.splits.values()) == 16
    found = finding(data, "data.unreadable")
    assert found.severity == "error"
    assert found.measured.startswith("7 of 23 files cannot be read: cat/bad0.jpg (")
    assert "cat/bad4.jpg" in found.measured
    assert "and 2 more" in found.measured
    assert "cat/bad5" not in found.measured


def test_splits_of_files_are_parts_of_one_block(tmp_path):
    folder(tmp_path / "f", 12)
    data = load(tmp_path / "f")
    parts = sorted((split.inputs.data_ptr(), split.inputs.nbytes) for split in data.splits.values())
    assert [start + length for start, length in parts[:-1]] == [start for start, _ in parts[1:]]
    for split in data.splits.values():
        assert split.ids.tolist() == sorted(split.ids.tolist())
    read = {int(i): x for split in data.splits.values() for i, x in zip(split.ids, split.inputs, strict=True)}
    streamed = load(tmp_path / "f", store="stream")
    for name, split in streamed.splits.items():
        assert torch.equal(split.ids, data.splits[name].ids)
        assert all(torch.equal(read[int(i)], x) for i, x in zip(split.ids, split.inputs[:], strict=True))


def test_ids_are_positions_in_the_listing_with_unreadable_files_counted(tmp_path):
    folder(tmp_path)
    (tmp_path / "cat" / "1.png").write_bytes(b"")
    data = load(tmp_path)
    for name, split in data.splits.items():
        for number, value in zip(split.ids.tolist(), split.inputs[:, 0, 0, 0].tolist(), strict=True):
            row = data.rows[number]
            assert row.split == name
            assert row.path == f"{('cat', 'dog')[value // 20]}/{value % 20}.png"


def test_unused_files_are_told_as_data_check_tells_them(tmp_path):
    folder(tmp_path, per_class=10)
    (tmp_path / "README.txt").write_text("x")
    (tmp_path / "cat" / ".DS_Store").write_text("x")
    (tmp_path / "plan.svg").write_text("x")
    picture(tmp_path / "loose.png")
    data = load(tmp_path)
    told = {one.code: (one.severity, one.measured.partition(": ")[2]) for one in data.findings}
    assert told == {
        "data.unsupported": ("warning", "plan.svg"),
        "data.misplaced": ("warning", "loose.png"),
        "data.hidden": ("note", "cat/.DS_Store"),
        "data.ignored": ("note", "README.txt"),
    }
    assert {one.code: one.severity for one in check_data(tmp_path).findings if one.code in told} == {
        code: severity for code, (severity, _) in told.items()
    }


def test_leaks_between_given_splits_and_contradicting_labels(tmp_path):
    for s, split in enumerate(("train", "val", "test")):
        for k, name in enumerate(("a", "b")):
            for i in range(2):
                picture(tmp_path / split / name / f"{i}.png", 50 * s + 10 * k + i)
    shutil.copy(tmp_path / "train/a/0.png", tmp_path / "test/a/copy.png")
    shutil.copy(tmp_path / "train/a/1.png", tmp_path / "train/b/copy.png")
    data = load(tmp_path)
    assert finding(data, "data.leak").measured.endswith(
        "given splits with identical content: test/a/copy.png = train/a/0.png"
    )
    assert "train/a/1.png (a) = train/b/copy.png (b)" in finding(data, "data.label-noise").measured
    assert {f.severity for f in data.findings} == {"warning"}


def test_duplicates_stay_together_and_have_a_row_each(tmp_path):
    folder(tmp_path, 10)
    for i in range(10):
        shutil.copy(tmp_path / f"cat/{i}.png", tmp_path / f"cat/copy{i}.png")
    data = load(tmp_path)
    split = {row.path: row.split for row in data.rows}
    assert len(split) == 30
    assert all(split[f"cat/{i}.png"] == split[f"cat/copy{i}.png"] for i in range(10))


# What cannot be trained on


@pytest.mark.parametrize("annotation", [None, "class"])
def test_one_class(tmp_path, annotation):
    with pytest.raises(DataError, match="only one class, 'cat'"):
        load(folder(tmp_path, classes=("cat",)), annotation=annotation)


def test_an_empty_class_and_one_with_nothing_readable(tmp_path):
    folder(tmp_path)
    (tmp_path / "owl").mkdir()
    with pytest.raises(DataError, match="the class folder owl/ is empty"):
        load(tmp_path)
    (tmp_path / "owl" / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"owl/ contains 1 file \(1 \.txt\) but no sample"):
        load(tmp_path)
    (tmp_path / "owl" / "a.png").write_text("x")
    with pytest.raises(DataError, match="no image of the class 'owl' can be read"):
        load(tmp_path)


def test_no_images_says_what_there_is(tmp_path):
    with pytest.raises(DataError, match="no files in 1 folder"):
        load(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.pdf").write_text("x")
    with pytest.raises(DataError, match=r"1 file \(1 \.pdf\)"):
        load(tmp_path)
    picture(tmp_path / "1.png")
    with pytest.raises(DataError, match="1 sample is not in a class folder"):
        load(tmp_path)


def test_nothing_readable(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_text("x")
    with pytest.raises(DataError, match=r"none of 2 files can be read; a/x\.png: not a picture"):
        load(tmp_path)


def test_a_class_that_occurs_only_in_test(tmp_path):
    folder(tmp_path / "train", 4)
    folder(tmp_path / "test", 1, ("cat", "owl"))
    with pytest.raises(DataError, match="the classes owl occur only in val or test"):
        load(tmp_path)


def test_samples_of_train_that_are_all_in_test_too(tmp_path):
    folder(tmp_path / "train", 4)
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    with pytest.raises(DataError, match="every sample of train has a copy in test, so none can be moved to val"):
        load(tmp_path)


def test_too_few_contents_for_three_splits(tmp_path):
    folder(tmp_path, 1)
    with pytest.raises(DataError, match="none of them in val and test"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("source", "suggestion"),
    [
        ("mnsit", "did you mean mnist?"),
        ("fashionmnist", "did you mean fashion-mnist?"),
        ("flowesr", "did you mean flowers?"),
    ],
)
def test_a_path_that_does_not_exist_suggests_the_nearest(tmp_path, monkeypatch, source, suggestion):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flowers").mkdir()
    with pytest.raises(DataError, match="neither a named data set nor a path") as caught:
        load(source)
    assert suggestion in caught.value.remedy
    with pytest.raises(DataError, match="the data of the run are no longer there") as caught:
        load(source, fingerprint="abc")
    assert caught.value.remedy.endswith(f"ln -s PLACE {source}")


def test_of_a_pattern_the_folder_is_suggested(tmp_path):
    for name in ("a.tar", "b.tar"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match="neither a named data set nor a path") as caught:
        load(f"{tmp_path}/*.tar")
    assert caught.value.remedy.endswith(f"not a pattern for its files: {tmp_path}")


def test_a_file_of_another_form_and_names_that_no_path_can_have(tmp_path):
    (tmp_path / "x.docx").write_text("x")
    with pytest.raises(DataError, match="a file of another form"):
        load(tmp_path / "x.docx")
    for source in ("", "\0", "x" * 5000):
        with pytest.raises(DataError):
            load(source)


# Repeatability


def test_fingerprint_follows_inputs_targets_and_splits(tmp_path):
    root = folder(tmp_path / "a", 10)
    first = load(root)
    assert first.fingerprint == load(root).fingerprint
    assert len(first.fingerprint) == len("contents-") + 64
    shutil.copytree(root, tmp_path / "b")
    assert load(tmp_path / "b").fingerprint == first.fingerprint
    others = [load(root, split_seed=1).fingerprint, load(root, size=(3, 3)).fingerprint]
    (root / "cat" / "0.png").rename(root / "dog" / "moved.png")
    others.append(load(root).fingerprint)
    assert len({first.fingerprint, *others}) == 4


def test_what_was_decided_reads_the_same_again(tmp_path):
    folder(tmp_path)
    picture(tmp_path / "cat" / "big.png", 99, (30, 20))
    first = load(tmp_path)
    again = load(first.source, size=first.input_shape[1:], channels=1)
    assert again.fingerprint == first.fingerprint


# Inputs of predict


def test_inputs_are_read_in_order_with_errors_in_their_place(tmp_path):
    for i in range(50):
        picture(tmp_path / "d" / f"{i:02}.png", i, (9, 9))
    (tmp_path / "d" / "25.jpg").write_text("a text")
    (tmp_path / "d" / "notes.txt").write_text("a text")
    (tmp_path / "d" / ".hidden.png").write_text("a text")
    (tmp_path / "explicit.txt").write_text("a text")
    paths = [tmp_path / "explicit.txt", tmp_path / "d", str(tmp_path / "d" / "00.png")]
    files, ignored = list_inputs(paths)
    assert ignored == 2
    preparation = Preparation("image", (1, 4, 6))
    read = list(read_inputs(list_inputs(paths)[0], preparation))
    assert [r.path for r in read] == list(files)
    assert len(read) == 53
    assert [r.path.rsplit("/")[-1] for r in read if r.error] == ["explicit.txt", "25.jpg"]
    assert all(r.error.startswith("not a picture") for r in read if r.input is None)
    values = [int(r.input[0, 0, 0]) for r in read if r.input is not None]
    assert values == [*range(50), 0]
    assert list(read_inputs(files, preparation))[5].path == read[5].path


def test_inputs_that_do_not_exist_fail_before_anything_is_read(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        list_inputs([tmp_path / "nope.png"])
    with pytest.raises(DataError, match="trained on"):
        read_inputs(list_inputs([tmp_path])[0], Preparation("table", (4,)))


def test_look_ahead_is_bounded():
    from striate.data.threads import map_ordered

    taken = []

    def numbers():
        for i in range(100_000):
            taken.append(i)
            yield i

    results = map_ordered(lambda i: 2 * i, numbers(), chunk=1)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    assert len(taken) < 1000
    results.close()


def test_an_error_in_a_thread_reaches_the_reader():
    from striate.data.threads import map_ordered

    with pytest.raises(ZeroDivisionError):
        list(map_ordered(lambda i: 1 // (i - 50), range(100), chunk=1))


# Real files, where they are


REAL = os.environ.get("STRIATE_DATA", "")


@pytest.mark.slow
@pytest.mark.skipif(not (Path(REAL) / "flowers").is_dir() or not REAL, reason="STRIATE_DATA has no flowers")
def test_flowers():
    data = load(Path(REAL) / "flowers", size=(32, 32))
    assert len(data.classes) == 5
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [175, 25, 50]


@pytest.mark.slow
@pytest.mark.skipif(not (Path(REAL) / "mnist").is_dir() or not REAL, reason="STRIATE_DATA has no mnist")
def test_mnist():
    data = load("mnist")
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [54_000, 6_000, 10_000]
    assert data.splits["test"].inputs.dtype == torch.uint8
    assert data.splits["test"].targets[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.slow
@pytest.mark.skipif(not (Path(REAL) / "cifar10-jpeg.tar.gz").is_file(), reason="STRIATE_DATA has no cifar10-jpeg")
def test_cifar10_as_jpeg():
    data = load("cifar10")
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [45_000, 5_000, 10_000]
    assert data.classes[0] == "airplane"
    assert any("JPEG" in note for note in data.notes)
