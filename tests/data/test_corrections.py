"""Labels that somebody corrected, and the splits of an earlier run, laid over untouched data."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from striate.api import check_data
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.errors import DataError


@pytest.fixture
def photos(own_folder: Path) -> Path:
    """Twelve images of two classes, each of another gray."""
    for number in range(12):
        folder = own_folder / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * number, np.uint8)).save(folder / f"{number}.png")
    return own_folder / "photos"


def labels_of(photos: Path, table: str) -> dict[str, str]:
    Path("labels.csv").write_text(f"path,label\n{table}")
    data = load_dataset(DataConfig(source=str(photos), labels="labels.csv"))
    assert data.classes == tuple(sorted({row.label for row in data.rows}))
    for part in data.splits.values():
        gray = part.inputs[:][:, 0, 0, 0].tolist()
        names = {f"{value // 10}": data.classes[int(number)] for value, number in zip(gray, part.targets, strict=True)}
        rows = {Path(row.path).stem: row.label for row in data.rows}
        assert all(rows[number] == name for number, name in names.items())  # of the image that the path names
    return {row.path: row.label for row in data.rows}


def test_a_label_is_replaced_a_sample_left_out_and_a_class_added(photos: Path) -> None:
    found = labels_of(photos, "cat/1.png,dog\ncat/3.png,fox\ndog/0.png,\n")
    assert Counter(found.values()) == {"dog": 6, "cat": 4, "fox": 1}
    assert (found["cat/1.png"], found["cat/3.png"], found["cat/5.png"]) == ("dog", "fox", "cat")
    assert "dog/0.png" not in found
    assert sorted(path.name for path in photos.rglob("*.png")) == sorted(f"{n}.png" for n in range(12))


def test_a_table_adds_files_that_the_data_do_not_have(photos: Path, tmp_path: Path) -> None:
    for place, gray in ((tmp_path / "found" / "12.png", 120), (Path("13.png"), 130)):
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), gray, np.uint8)).save(place)
    found = labels_of(photos, f"{tmp_path / 'found' / '12.png'},fox\n13.png,fox\n")
    assert Counter(found.values()) == {"dog": 6, "cat": 6, "fox": 2}
    with pytest.raises(DataError, match="line 2"):
        labels_of(photos, f"{tmp_path / 'found' / 'other.png'},fox\n")


def test_a_class_that_the_table_gives_to_held_out_samples_alone_is_told_with_the_table(photos: Path) -> None:
    splits = [f"cat/{n}.png,cat,test" if n == 1 else f"{'cat' if n % 2 else 'dog'}/{n}.png,x,train" for n in range(12)]
    Path("split.csv").write_text("path,label,split\n" + "\n".join(splits))
    Path("labels.csv").write_text("path,label\ncat/1.png,fox\n")
    with pytest.raises(DataError, match="the classes fox occur only in val or test") as error:
        load_dataset(DataConfig(source=str(photos), labels="labels.csv", splits="split.csv"))
    assert error.value.remedy == "give these labels to some images of train too in labels.csv, or leave their rows out"


@pytest.mark.parametrize(
    ("table", "where", "got"),
    [
        ("cat/01.png,dog\n", "line 2", "such as cat/1.png"),
        ("cat/1.png,dog\ncat/1.png,cat\n", "line 3", "but in an earlier line as dog"),
        ("".join(f"{'cat' if n % 2 else 'dog'}/{n}.png,\n" for n in range(12)), "labels.csv", "every sample"),
    ],
)
def test_a_wrong_line_is_named(photos: Path, table: str, where: str, got: str) -> None:
    with pytest.raises(DataError, match=where) as error:
        labels_of(photos, table)
    assert got in str(error.value)


@pytest.mark.parametrize("text", ["file,class\n", "", "path,label\n\xff".encode("latin-1").decode("latin-1")])
def test_what_is_no_such_table_is_refused(photos: Path, text: str) -> None:
    Path("labels.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"labels labels\.csv"):
        load_dataset(DataConfig(source=str(photos), labels="labels.csv"))
    with pytest.raises(DataError, match="not a regular file"):
        load_dataset(DataConfig(source=str(photos), labels="."))


def test_numbers_have_no_corrected_classes() -> None:
    Path("labels.csv").write_text("path,label\n0,1\n")
    with pytest.raises(DataError, match="other annotations"):
        load_dataset(DataConfig(source="boston", labels="labels.csv"))


def split_file(splits: dict[str, str]) -> None:
    Path("split.csv").write_text("path,label,split\n" + "".join(f"{path},x,{name}\n" for path, name in splits.items()))


def test_a_new_copy_joins_the_split_of_the_sample_that_it_repeats(photos: Path) -> None:
    held = {"cat/1.png": "test", "dog/2.png": "test", "cat/3.png": "val", "dog/4.png": "val"}
    names = [f"{'cat' if n % 2 else 'dog'}/{n}.png" for n in range(12)]
    split_file({name: held.get(name, "train") for name in names})
    for path, new in (("cat/1.png", "cat/copy.png"), ("cat/3.png", "dog/copy.png"), ("cat/5.png", "cat/other.png")):
        (photos / new).write_bytes((photos / path).read_bytes())
    (photos.parent / "found.png").write_bytes((photos / "dog/2.png").read_bytes())
    Path("labels.csv").write_text("path,label\nfound.png,dog\n")
    found = load_dataset(DataConfig(source=str(photos), splits="split.csv", labels="labels.csv"))
    rows = {row.path: row.split for row in found.rows}
    assert [rows[name] for name in ("cat/copy.png", "dog/copy.png", "cat/other.png")] == ["test", "val", "train"]
    assert rows["found.png"] == "test"
    assert not [finding for finding in found.findings if finding.code == "data.leak"]


def test_a_new_sample_joins_the_split_of_its_group(photos: Path) -> None:
    rows = [(f"photos/{'cat' if n % 2 else 'dog'}/{n}.png", "cat" if n % 2 else "dog", f"g{n // 2}") for n in range(12)]
    Path("m.csv").write_text("path,label,group\n" + "".join(f"{','.join(row)}\n" for row in rows))
    split_file({path: {"g0": "test", "g1": "val"}.get(group, "train") for path, _, group in rows if "/1." not in path})
    found = load_dataset(DataConfig(source="m.csv", splits="split.csv"))
    assert {row.path: row.split for row in found.rows}["photos/cat/1.png"] == "test"


def test_the_splits_of_an_earlier_run_can_be_checked(photos: Path) -> None:
    names = [f"{'cat' if n % 2 else 'dog'}/{n}.png" for n in range(12)]
    (photos / "cat" / "copy.png").write_bytes((photos / "cat/1.png").read_bytes())
    split_file(
        {"cat/copy.png": "train"} | {name: "test" if name in ("cat/1.png", "dog/2.png") else "train" for name in names}
    )
    checked = check_data(photos, set={"data.splits": "split.csv"})
    leak = next(finding for finding in checked.findings if finding.code == "data.leak")
    assert "cat/1.png (test) = cat/copy.png (train)" in leak.measured
    assert "--data.splits split.csv" in checked.remedy


def test_what_has_no_splits_or_labels_is_named(photos: Path) -> None:
    for name in ("cv", "empty"):
        Path(name).mkdir()
    Path("cv", "folds.csv").write_text("path,label,repeat_1\n")
    for source, got in (
        ("cv", "a cross-validation, which has folds"),
        ("empty", "a folder without split.csv"),
        ("gone", "neither a run nor a file"),
    ):
        with pytest.raises(DataError) as caught:
            load_dataset(DataConfig(source=str(photos), splits=source))
        assert (caught.value.where, caught.value.got) == (f"splits {source}", got)
    with pytest.raises(DataError) as caught:
        load_dataset(DataConfig(source=str(photos), labels="gone.csv"))
    assert caught.value.remedy == "leave out --data.labels, or give the path of such a table"


def test_splits_of_an_earlier_run_are_kept_and_new_samples_trained_on(photos: Path) -> None:
    before = load_dataset(DataConfig(source=str(photos), split_seed=3))
    rows = {row.path: row.split for row in before.rows}
    Path("split.csv").write_text("path,label,split\n" + "".join(f"{path},x,{split}\n" for path, split in rows.items()))
    Image.fromarray(np.full((8, 8), 250, np.uint8)).save(photos / "cat" / "new.png")
    after = load_dataset(DataConfig(source=str(photos), splits="split.csv"))
    assert {row.path: row.split for row in after.rows} == rows | {"cat/new.png": "train"}
    assert any("1 sample is new" in note for note in after.notes)
    with pytest.raises(DataError, match="none of these samples"):
        load_dataset(DataConfig(source="digits", splits="split.csv"))
