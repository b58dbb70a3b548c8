"""Where splits and classes are looked for in folders and archives, and that a source named again reads the same."""

import gzip
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from made_data import picture
from striate.data.config import DataConfig
from striate.data.fingerprint import fingerprint_of
from striate.data.read import load_dataset
from striate.data.sources.archive import archive_tree
from striate.data.sources.class_folders import unwrapped
from striate.errors import DataError


def load(path, annotation=None, **fields):
    return load_dataset(DataConfig(source=str(path), **fields), annotation=annotation)


def classes(root, names=("cat", "dog"), count=5, start=0):
    for k, name in enumerate(names):
        for i in range(count):
            picture(root / name / f"{i}.png", start + 20 * k + i)
    return root


def splits(root, names=("train", "val", "test"), **options):
    for s, name in enumerate(names):
        classes(root / name, start=50 * s, **options)
    return root


def test_for_one_picture_the_folder_that_can_be_read_is_suggested(tmp_path, monkeypatch):
    root = classes(tmp_path / "set")
    monkeypatch.chdir(root / "cat")
    for picture_path, folder in ((root / "cat" / "0.png", root), ("0.png", "..")):
        with pytest.raises(DataError) as caught:
            load(picture_path)
        assert caught.value.remedy == f"give the folder instead: '{folder}'"
        assert load(folder).classes == ("cat", "dog")
    picture(tmp_path / "alone" / "0.png", 7)  # what lies beside its folder are no classes
    with pytest.raises(DataError, match=r"alone'$"):
        load(tmp_path / "alone" / "0.png")


# Splits or classes


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (("train", "val", "test"), ()),
        (("Train", "VAL", "Test"), ("Split folders: Test/ as test, Train/ as train, VAL/ as val.",)),
        (("Training", "dev", "Testing"), ("Split folders: Testing/ as test, Training/ as train, dev/ as val.",)),
        (("training", "validation", "test"), ("Split folders: training/ as train, validation/ as val.",)),
    ],
)
def test_spellings_of_a_split_are_taken_and_said(tmp_path, names, note):
    data = load(splits(tmp_path, names))
    assert data.classes == ("cat", "dog")
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 10, "val": 10, "test": 10}
    assert data.notes == note


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("names", [("train", "test"), ("TRAIN", "Testing"), ("train", "val")])
def test_pictures_directly_in_split_folders_are_no_classes(tmp_path, names, wrap):
    source = classes(tmp_path / "flat", names)
    if wrap:
        source = pack(tmp_path / "flat.zip", source, "flat/")
    with pytest.raises(DataError, match="named as a split, with 5 pictures directly in it") as caught:
        load(source)
    assert "put a folder for each class into" in caught.value.remedy


@pytest.mark.parametrize("other", ["docs", "cat", "extra"])
def test_a_folder_beside_splits_is_refused(tmp_path, other):
    splits(tmp_path, ("train", "test"))
    picture(tmp_path / other / "0.png", 99)
    with pytest.raises(DataError, match=f"test/, train/ named as a split, beside {other}/") as caught:
        load(tmp_path)
    assert "manifest .csv (path,label,split)" in caught.value.remedy


def test_a_class_named_as_a_split_is_refused_with_the_word_rename(tmp_path):
    with pytest.raises(DataError, match="test/ named as a split, beside cat/, dog/") as caught:
        load(classes(tmp_path, ("cat", "dog", "test")))
    assert caught.value.remedy.startswith("if test/ is a class, rename it")


@pytest.mark.parametrize("name", ["eval", "Evaluation"])
def test_a_name_that_may_mean_val_or_test_is_refused(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}/, which may mean val or test") as caught:
        load(splits(tmp_path, ("train", name)))
    assert caught.value.remedy == f"rename {name}/ to val/ or test/"


def test_one_split_without_class_folders_is_refused(tmp_path):
    splits(tmp_path, ("train",))
    picture(tmp_path / "test" / "1.png")
    with pytest.raises(DataError, match=r"test/, named as a split, with 1 picture directly in it, the first test/1"):
        load(tmp_path)
    (tmp_path / "test" / "1.png").unlink()
    with pytest.raises(DataError, match="with no folder in it") as caught:
        load(tmp_path)
    assert caught.value.remedy.startswith("put a folder for each class into test/")


def test_masks_of_splits_that_lack_images_or_masks_are_refused(tmp_path):
    for split in ("train", "Testing"):
        for i in range(4):
            picture(tmp_path / split / "images" / f"{i}.png", 10 * len(split) + i)
            (tmp_path / split / "masks").mkdir(exist_ok=True)
            Image.fromarray(np.array([[0, 1, 1]] * 4, np.uint8).repeat(2, 1)).save(
                tmp_path / split / "masks" / f"{i}.png"
            )
    data = load(tmp_path)
    assert len(data.splits["test"]) == 4
    assert "Split folders: Testing/ as test." in data.notes
    for i in range(4):
        (tmp_path / "Testing" / "masks" / f"{i}.png").unlink()
    with pytest.raises(DataError, match="4 of 8 images without a mask"):
        load(tmp_path)
    (tmp_path / "Testing" / "images").rename(tmp_path / "Testing" / "pictures")
    with pytest.raises(DataError, match="Testing/ without images/"):
        load(tmp_path)


# Wrapping folders of archives


def pack(path, root, prefix="", extra=()):
    files = [(prefix + item.relative_to(root).as_posix(), item.read_bytes()) for item in root.rglob("*.*")]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (*files, *extra):
            archive.writestr(name, data)
    return path


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("make", [classes, splits])
@pytest.mark.parametrize("prefix", ["photos/", "a/b/", "a/b/c/"])
@pytest.mark.parametrize("extra", [(), ("README.md",), ("README.md", "a/LICENSE.txt")])
def test_wrapping_folders_are_descended_also_beside_a_readme(tmp_path, make, prefix, extra):
    root = make(tmp_path / "files")
    extra = [name for name in extra if "/" not in name or prefix.startswith("a/")]
    data = load(pack(tmp_path / "set.zip", root, prefix, [(name, b"text") for name in extra]))
    assert data.rows == load(root).rows
    assert f"Paths are relative to the folder {prefix}, which contains all of the data." in data.notes
    ignored = [f.measured for f in data.findings if f.code == "data.ignored"]
    named = "1 file or array is" if len(extra) == 1 else f"{len(extra)} files or arrays are"
    assert ignored == ([f"{named} not used: {', '.join(extra)}"] if extra else [])


@pytest.mark.parametrize("name", ["Train", "train", "testing"])
def test_a_split_is_no_wrapping_folder_in_any_case(tmp_path, name):
    root = classes(tmp_path / "files")
    tree = unwrapped(archive_tree(pack(tmp_path / "x.zip", root, f"{name}/")))
    assert tree.tops() == {name}


def test_what_is_no_wrapping_folder_stays(tmp_path):
    path = pack(tmp_path / "x.zip", classes(tmp_path / "files", ("cat",)))
    with pytest.raises(DataError, match="only one class, 'cat'"):
        load(path)
    path = pack(tmp_path / "y.zip", classes(tmp_path / "files"), "photos/", [("loose.png", b"")])
    with pytest.raises(DataError, match="only one class, 'photos'"):
        load(path)


def test_idx_files_beside_a_folder_are_found_in_an_archive(tmp_path):
    root = idx(tmp_path / "files")
    (root / "docs").mkdir()
    (root / "docs" / "a.txt").write_text("x")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(root, "wrapped")
    data = load(tmp_path / "x.tar")
    assert len(data.splits["test"]) == 10
    with tarfile.open(tmp_path / "y.tar", "w") as archive:
        for item in root.iterdir():
            archive.add(item, item.name)
    assert load(tmp_path / "y.tar").fingerprint == data.fingerprint


# Every form, read again by what config.yaml keeps


def idx(root):
    root.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", 30), ("t10k", 10)):
        x = np.random.default_rng(n).integers(0, 256, (n, 5, 4), dtype=np.uint8)
        for what, array in (("images", x), ("labels", (np.arange(n) % 3).astype(np.uint8))):
            head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
            (root / f"{split}-{what}-idx{array.ndim}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return root


def cifar(root):
    root.mkdir(parents=True, exist_ok=True)
    for name, n in (("data_batch_1", 20), ("test_batch", 10)):
        data = np.random.default_rng(n).integers(0, 256, (n, 3072), dtype=np.uint8)
        (root / name).write_bytes(pickle.dumps({"data": data, "labels": [i % 3 for i in range(n)]}))
    return root


def npz(path, **fields):
    x = np.random.default_rng(0).integers(0, 256, (12, 3, 5, 3), dtype=np.uint8)
    np.savez(path, x=x, y=np.arange(12) % 3, **fields)
    return path


def mat(path):
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.random.default_rng(0).integers(0, 256, (8, 8, 3, 30), dtype=np.uint8)
    savemat(path, {"X": x, "y": np.arange(30)[:, None] % 3 + 1}, do_compression=True)
    return path


def manifest(root):
    classes(root)
    lines = [f"{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(5)]
    (root / "list.csv").write_text("path,label\n" + "\n".join(lines))
    return root / "list.csv"


def masked(root):
    for i in range(6):
        picture(root / "images" / f"{i}.png", 9 * i)
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.array([[0, 0, 1, 1, 1, 1]] * 4, np.uint8)).save(root / "masks" / f"{i}.png")
    return root


def several_sizes(root):
    picture(classes(root) / "cat" / "big.png", (9, 8, 7), (30, 20), "RGB")
    return root


FORMS = {
    "name": lambda _: "iris",
    "folder": lambda root: classes(root / "d"),
    "several sizes": lambda root: several_sizes(root / "d"),
    "splits": lambda root: splits(root / "d", ("Training", "dev", "Test")),
    "zip": lambda root: pack(root / "d.zip", several_sizes(root / "d"), "wrapped/"),
    "manifest": lambda root: manifest(root / "d"),
    "idx folder": lambda root: idx(root / "d"),
    "idx images": lambda root: idx(root / "d") / "t10k-images-idx3-ubyte.gz",
    "idx labels": lambda root: idx(root / "d") / "train-labels-idx1-ubyte.gz",
    "cifar": lambda root: cifar(root / "d"),
    "npz": lambda root: npz(root / "d.npz"),
    "mat": lambda root: mat(root / "d.mat"),
    "svhn": lambda root: mat(root / "d" / "train_32x32.mat").parent,
    "masks": lambda root: masked(root / "d"),
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("relative", [False, True])
def test_the_recorded_source_reads_the_same_again_from_elsewhere(tmp_path, monkeypatch, form, relative):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source = FORMS[form](tmp_path / "here")
    if relative and form != "name":
        source = source.relative_to(tmp_path / "here")
    layout = {"layout": "NCHW"} if form == "npz" else {}
    first = load(source, **layout)
    monkeypatch.chdir(tmp_path)
    decided = {"size": first.input_shape[1:], "channels": first.input_shape[0]} if first.kind == "image" else {}
    again = load(first.source, **decided, **layout)
    assert again.fingerprint == first.fingerprint
    assert again.source == first.source
    assert again.rows == first.rows


def test_a_named_set_reads_the_same_again(tmp_path, monkeypatch):
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path))
    idx(tmp_path / "mnist")
    first = load("mnist")
    assert load(first.source, size=(5, 4), channels=1).fingerprint == first.fingerprint


def test_the_fingerprint_follows_the_names_of_classes_and_targets(tmp_path):
    first = load(classes(tmp_path / "a")).fingerprint
    assert load(classes(tmp_path / "b")).fingerprint == first
    assert load(classes(tmp_path / "c", ("cat", "emu"))).fingerprint != first
    lines = "".join(f"{name}/{i}.png,{i / 2}\n" for name in ("cat", "dog") for i in range(5))
    (tmp_path / "a" / "list.csv").write_text("path,label\n" + lines)
    number = load(tmp_path / "a" / "list.csv")
    renamed = number.__class__(**vars(number) | {"target_names": ("price",)})
    assert fingerprint(number) == number.fingerprint
    assert fingerprint(renamed) != number.fingerprint


def fingerprint(data):
    named = (data.classes, data.target_names, data.preparation)
    return fingerprint_of(data.splits, data.contents, named, "memory")


# Sizes of what proves damaged


def test_the_commonest_size_is_that_of_readable_pictures(tmp_path):
    classes(tmp_path)
    for i in range(20):
        path = tmp_path / "cat" / f"cut{i}.png"
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)
        path.write_bytes(path.read_bytes()[:-900])
    data = load(tmp_path)
    assert data.input_shape == (1, 4, 6)
    assert not any(note.startswith(("Size", "Channels")) for note in data.notes)
    assert [f.code for f in data.findings] == ["data.unreadable", "data.too-few"]
    assert sum(len(split) for split in data.splits.values()) == 10
    for name in ("cat", "dog"):
        for path in (tmp_path / name).glob("?.png"):
            path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(DataError, match="none of 30 files can be read"):
        load(tmp_path)
