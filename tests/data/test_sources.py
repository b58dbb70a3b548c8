"""Every form of the data argument, each written into a temporary folder."""

import contextlib
import gzip
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from made_data import picture
from striate.data.config import DataConfig
from striate.data.read import load_dataset
from striate.data.sources import tree as tree_module
from striate.data.sources.archive import archive_tree
from striate.data.sources.idx import parse_idx
from striate.data.sources.list_source import list_source
from striate.data.sources.manifest import list_manifest
from striate.data.sources.npz import list_npz
from striate.data.sources.svhn import list_svhn_file
from striate.data.sources.unpickle import load_plain
from striate.errors import ConfigError, DataError
from striate.runs.directory import create_run
from striate.studies.cross_validation.fold_files import FOLDERS


def load(path, annotation=None, **fields):
    return load_dataset(DataConfig(source=str(path), **fields), annotation=annotation)


def class_folder(root, per_class=5, classes=("cat", "dog"), prefix=""):
    for k, name in enumerate(classes):
        for i in range(per_class):
            picture(root / prefix / name / f"{i}.png", 20 * k + i)
    return root


def split_folder(root):
    for s, split in enumerate(("train", "valid", "test")):
        for k, name in enumerate(("cat", "dog")):
            for i in range(3):
                picture(root / split / name / f"{i}.png", 50 * s + 10 * k + i)
    return root


def rows(dataset):
    return [(row.path, row.label, row.split) for row in dataset.rows]


def counts(dataset):
    return {name: len(split) for name, split in dataset.splits.items()}


# Folders


def test_folder_of_classes(tmp_path):
    data = load(class_folder(tmp_path, 10))
    assert data.classes == ("cat", "dog")
    assert counts(data) == {"train": 14, "val": 2, "test": 4}
    assert data.input_shape == (1, 4, 6)
    for split in data.splits.values():
        assert split.inputs.dtype == torch.uint8
        # The pixel value tells the class and the position in the listing.
        values = split.inputs[:, 0, 0, 0].long()
        assert torch.equal(split.targets, values // 20)
        assert torch.equal(split.ids, split.targets * 10 + values % 20)
    assert [path for path, _, _ in rows(data)] == sorted(path for path, _, _ in rows(data))


def test_folder_with_given_splits_keeps_them(tmp_path):
    data = load(split_folder(tmp_path))
    assert counts(data) == {"train": 6, "val": 6, "test": 6}
    assert {(path.split("/")[0], split) for path, _, split in rows(data)} == {
        ("train", "train"),
        ("valid", "val"),
        ("test", "test"),
    }
    assert data.notes == ("Split folders: valid/ as val.",)


def test_folder_without_val_cuts_it_from_train(tmp_path):
    for i in range(20):
        for k, name in enumerate(("a", "b")):
            picture(tmp_path / "train" / name / f"{i}.png", 100 * k + i)
    for k, name in enumerate(("a", "b")):
        picture(tmp_path / "test" / name / "0.png", 200 + k)
    data = load(tmp_path)
    assert counts(data) == {"train": 36, "val": 4, "test": 2}
    assert data.notes == (
        "Splits: val (10 %) of each class taken from train, chosen by a hash of each sample's content.",
    )


def test_classes_are_ordered_by_value_if_all_are_numbers(tmp_path):
    data = load(class_folder(tmp_path, 3, ("10", "9", "2")))
    assert data.classes == ("2", "9", "10")


def test_class_folders_are_read_at_any_depth_and_through_links(tmp_path):
    picture(tmp_path / "real" / "cat" / "sub" / "0.png", 1)
    class_folder(tmp_path / "data", 3)
    (tmp_path / "data" / "cat" / "more").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "data" / "cat" / "loop").symlink_to(tmp_path / "data")
    data = load(tmp_path / "data")
    assert "cat/more/sub/0.png" in [path for path, _, _ in rows(data)]
    assert len(data.rows) == 7


def made_run(path, name, folders=("checkpoints", "plots")):
    run = create_run(path / name, "", folders)
    (run.path / ("study.yaml" if folders == ("plots",) else "config.yaml")).write_text("")
    (run.path / ".lock").write_text("")
    picture(run.plots / "curves.png", 1)
    return run


@pytest.mark.parametrize("make", [class_folder, split_folder])
@pytest.mark.parametrize("packed", [False, True])
def test_runs_inside_are_skipped_and_said(tmp_path, make, packed):
    def read():
        return load(pack_zip(tmp_path / "set.zip", root) if packed else root)

    root = make(tmp_path / "set")
    before = read()
    made_run(root, "runs/set-1")
    made_run(root, "runs/set-2", FOLDERS)
    made_run(made_run(root, "runs/tried/set-sweep-1", ("plots",)).path, "best")
    (made_run(root, "runs/killed at once").path / "config.yaml").unlink()
    after = read()
    assert (rows(after), after.fingerprint) == (rows(before), before.fingerprint)
    note = "Skipped, as runs of striate: runs/killed at once/, runs/set-1/, runs/set-2/ and 1 more."
    assert sorted(after.notes) == sorted((*before.notes, note))


def test_what_is_no_run_stays(tmp_path):
    root = class_folder(tmp_path / "set")
    made_run(root, "cat/run")
    picture(root / "runs" / "1.png", 70)  # a class, whatever lies beside its pictures
    made_run(root, "runs/set-1")
    for name in ("checkpoints", "plots"):  # a class of plots
        picture(root / "dog" / name / "1.png", 80 + len(name))
    (root / "dog" / "config.json").write_text("{}")
    data = load(root)
    assert data.classes == ("cat", "dog", "runs")
    assert sum(counts(data).values()) == 13
    assert data.notes[0] == "Skipped, as runs of striate: cat/run/ and runs/set-1/."


def test_regress_reads_numeric_class_folders(tmp_path):
    data = load(class_folder(tmp_path, 5, ("1.5", "20")), annotation="number")
    assert data.annotation == "number"
    assert sorted(set(data.splits["train"].targets.flatten().tolist())) == [1.5, 20.0]
    assert data.splits["train"].targets.ndim == 2
    with pytest.raises(DataError, match="the label 'cat'"):
        load(class_folder(tmp_path / "x"), annotation="number")
    with pytest.raises(DataError, match="masks, which the task needs"):
        load(tmp_path / "x", annotation="mask")


# Archives


def pack_tar(path, root, mode, prefix=""):
    with tarfile.open(path, mode) as archive:
        for item in sorted(root.rglob("*")):
            archive.add(item, prefix + item.relative_to(root).as_posix(), recursive=False)
    return path


def pack_zip(path, root, prefix=""):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for item in sorted(root.rglob("*")):
            archive.write(item, prefix + item.relative_to(root).as_posix())
    return path


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("make", [class_folder, split_folder])
@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "tgz", "zip"])
@pytest.mark.parametrize("prefix", ["", "wrapped/", "./"])
def test_archives_are_read_like_the_folder(tmp_path, make, suffix, prefix):
    root = make(tmp_path / "files")
    path = tmp_path / f"set.{suffix}"
    if suffix == "zip":
        pack_zip(path, root, prefix)
    else:
        pack_tar(path, root, "w" if suffix == "tar" else "w:gz", prefix)
    data, folder = load(path), load(root)
    assert data.name == "set"
    assert rows(data) == rows(folder)
    assert data.fingerprint == folder.fingerprint


def tar_with(path, *members):
    with tarfile.open(path, "w") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 0
            archive.addfile(member)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "says"),
    [
        ("a/../../evil.png", tarfile.REGTYPE, "leads outside"),
        ("/etc/evil.png", tarfile.REGTYPE, "an absolute path"),
        ("C:\\evil.png", tarfile.REGTYPE, "an absolute path"),
        ("a\\..\\..\\evil.png", tarfile.REGTYPE, "leads outside"),
        ("a/link.png", tarfile.SYMTYPE, "a link"),
        ("a/link.png", tarfile.LNKTYPE, "a link"),
        ("a/device", tarfile.CHRTYPE, "a device"),
        ("a/pipe", tarfile.FIFOTYPE, "a device"),
    ],
)
def test_hostile_tar_members_are_refused_by_name(tmp_path, name, kind, says):
    path = tar_with(tmp_path / "x.tar", ("a/0.png", tarfile.REGTYPE, ""), (name, kind, "/etc/passwd"))
    with pytest.raises(DataError, match=says) as caught:
        load(path)
    assert repr(name) in caught.value.where


@pytest.mark.parametrize("name", ["../evil.png", "/evil.png", "a/../../b.png"])
def test_hostile_zip_members_are_refused_by_name(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(name, b"")
    with pytest.raises(DataError) as caught:
        load(tmp_path / "x.zip")
    assert repr(name) in caught.value.where


def test_zip_links_and_names_that_occur_twice_are_refused(tmp_path):
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(DataError, match="a link"):
        load(tmp_path / "x.zip")
    members = [("a/0.png", tarfile.REGTYPE, "")] * 2
    with pytest.raises(DataError, match="occurs twice"):
        load(tar_with(tmp_path / "x.tar", *members))


def test_bombs_are_refused_while_decompressing(tmp_path, monkeypatch):
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 1 << 20)
    monkeypatch.setattr(tree_module, "LARGEST_RATIO", 2)
    zeros = bytes(4 << 20)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(zeros))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/0.png", zeros)
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros((4 << 20, 1), np.uint8), y=np.zeros(4 << 20, np.uint8))
    for name in ("x.tar.gz", "x.zip", "x.npz"):
        with pytest.raises(DataError, match="more than 1,048,576 bytes from"):
            load(tmp_path / name)


def test_a_zip_member_that_lies_about_its_size_is_unreadable_not_fatal(tmp_path):
    root = class_folder(tmp_path / "files", 6)
    path = pack_zip(tmp_path / "x.zip", root)
    data = bytearray(path.read_bytes())
    place = data.rindex(b"dog/5.png")  # its entry in the central directory
    struct.pack_into("<I", data, place - 46 + 24, 3)
    path.write_bytes(data)
    dataset = load(path)
    assert ("dog/5.png", "dog", "unreadable") in rows(dataset)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
@given(junk=st.binary(max_size=600))
def test_junk_is_no_archive(name, junk, tmp_path_factory):
    path = tmp_path_factory.mktemp("junk") / name
    path.write_bytes(junk)
    with pytest.raises(DataError):
        load(path)


def test_cut_off_archives(tmp_path):
    root = class_folder(tmp_path / "files")
    for name, mode in (("x.tar", "w"), ("x.tar.gz", "w:gz")):
        path = pack_tar(tmp_path / name, root, mode)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
        with pytest.raises(DataError):
            load(path)


def test_nothing_is_left_on_the_disk(tmp_path, monkeypatch):
    import tempfile

    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    tree = archive_tree(pack_tar(tmp_path / "x.tar.gz", class_folder(tmp_path / "files"), "w:gz"))
    assert tree.read("cat/0.png") == (tmp_path / "files/cat/0.png").read_bytes()
    assert list((tmp_path / "tmp").iterdir()) == []


# Manifests


def manifest(root, text, count=8):
    for i in range(count):
        picture(root / "img" / f"{i}.png", i)
    (root / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return root / "list.csv"


def lines(header, labels, extra=""):
    return header + "".join(f"\nimg/{i}.png,{label}{extra}" for i, label in enumerate(labels)) + "\n"


def test_manifest_of_classes_with_bom_and_crlf(tmp_path):
    text = "\ufeff" + lines("path,label", "aaaabbbb").replace("\n", "\r\n")
    data = load(manifest(tmp_path, text))
    assert data.classes == ("a", "b")
    assert counts(data) == {"train": 4, "val": 2, "test": 2}


def test_manifest_splits_are_kept_and_empty_ones_decided(tmp_path):
    splits = ["train", "train", "validation", "test", "train", "Train", "", "test"]
    text = "split,path,label,who\n" + "".join(f"{s},img/{i}.png,{'ab'[i % 2]},me\n" for i, s in enumerate(splits))
    data = load(manifest(tmp_path, text))
    found = [split for _, _, split in rows(data)]
    assert found == ["train", "train", "val", "test", "train", "train", "train", "test"]
    assert data.notes == ("Columns of the manifest used only for slices of the evaluation: who.",)
    assert data.facts["train"].columns == {"who": ("me",) * 5}


def test_manifest_numbers(tmp_path):
    path = manifest(tmp_path, lines("path,label", [1.5, 2, 3, 4, 5, 6, 7, 8]))
    assert load(path).annotation == "number"
    path = manifest(tmp_path, lines("path,label", range(8)))
    assert load(path, annotation="number").splits["train"].targets.dtype == torch.float32
    assert list_manifest(path, "auto").annotation == "class"
    path = manifest(tmp_path, lines("path,label", [1, 2, 3, "x", 5, 6, 7, 8]))
    with pytest.raises(DataError, match=r"line 5\n.*'x'"):
        load(path, annotation="number")


@pytest.mark.each_nth(4)
@pytest.mark.parametrize("odd", ["nan", "inf", "-Infinity", "N/A", "none"])
def test_numbers_of_which_some_are_not_known_are_neither_numbers_nor_classes(tmp_path, odd):
    path = manifest(tmp_path, lines("path,label", [0.5, 1.5, 0.5, odd, 1.5, 0.5, odd, 0.5]))
    with pytest.raises(DataError, match=rf"line 5\n.*'{odd}', and 1 more such, beside 6 numbers") as caught:
        load(path)
    assert "--task regress" in caught.value.remedy
    assert "--task classify" in caught.value.remedy
    assert load(path, annotation="class").annotation == "class"
    whole = manifest(tmp_path, lines("path,label", [1, 2, 1, odd, 2, 1, odd, 1]))
    assert odd in list_manifest(whole, None).classes, "numbers of classes"
    sizes = manifest(tmp_path, lines("path,label", [0.5, 1.5, 0.5, "large", 1.5, 0.5, odd, 0.5]))
    assert "large" in list_manifest(sizes, None).classes, "a name of a class"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no rows"),
        ("path,label\n", "no rows"),
        ("file,class\nimg/0.png,a\n", "the columns file and class"),
        ("file,labels\nimg/0.png,a\n", "the columns file and labels"),
        ("path,label\nimg/0.png,a\nimg/nope.png,b\n", "line 3\n.*not a file"),
        ("path,label\nimg/0.png,\n", "line 2\n.*no label for 'img/0.png'"),
        ("path,label\nimg/0.png\n", "line 2\n.*1 field\n"),
        ("path,label\n,a\n", "line 2\n.*the path ''"),
        ("path,label,split\nimg/0.png,a,eval\n", "line 2\n.*the split 'eval'"),
        ("path,label\n/etc/passwd,a\n", "line 2\n.*absolute path '/etc/passwd'"),
        ("path,label\nC:\\x.png,a\n", "line 2\n.*absolute path"),
        ("path,label\nimg/../../x.png,a\n", "line 2\n.*the path"),
        ("path,label\nimg,a\nimg/0.png,b\n", "line 2\n.*not a file"),
        ("path,label\nlink.png,a\n", "line 2\n.*a link to"),
        (b"path,label\n\xff\xfe,a\n", "not UTF-8"),
    ],
)
def test_manifest_errors_name_the_line(tmp_path, text, says):
    (tmp_path / "outside.png").write_bytes(b"")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(DataError, match=says):
        load(manifest(tmp_path / "in", text))


@given(junk=st.binary(max_size=300))
def test_manifest_of_any_bytes_gives_only_data_errors(junk, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "junk.csv"
    path.write_bytes(b"path,label\n" + junk)
    with pytest.raises(DataError):
        list_manifest(path, "auto")


@given(text=st.text(max_size=100))
def test_manifest_of_any_text_gives_only_data_errors(text, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "text.csv"
    path.write_text("path,label\n" + text, encoding="utf-8", newline="")
    with pytest.raises(DataError):
        list_manifest(path, "auto")


# idx


def idx_bytes(array, code=0x08):
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def idx_folder(root, gz=False, dotted=False, train=30, test=10):
    root.mkdir(parents=True, exist_ok=True)
    for split, n in (("train", train), ("t10k", test)):
        x = np.random.default_rng(n).integers(0, 256, (n, 5, 4), dtype=np.uint8)
        y = (np.arange(n) % 3).astype(np.uint8)
        for what, array in (("images", x), ("labels", y)):
            name = f"{split}-{what}{'.' if dotted else '-'}idx{array.ndim}-ubyte"
            data = idx_bytes(array)
            (root / (name + ".gz" * gz)).write_bytes(gzip.compress(data) if gz else data)
    return root


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_idx_folder(tmp_path, gz, dotted):
    data = load(idx_folder(tmp_path, gz, dotted))
    assert counts(data) == {"train": 27, "val": 3, "test": 10}
    assert data.classes == ("0", "1", "2")
    assert data.input_shape == (1, 5, 4)
    x = np.random.default_rng(10).integers(0, 256, (10, 5, 4), dtype=np.uint8)
    assert (data.splits["test"].inputs[:, 0].numpy() == x).all()
    assert rows(data)[0] == ("test/00000", "0", "test")


def test_idx_file_takes_its_partner_and_is_split(tmp_path):
    data = load(idx_folder(tmp_path) / "train-images-idx3-ubyte")
    assert sum(counts(data).values()) == 30
    assert rows(data)[0][0] == "00000"
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no file of labels"):
        load(tmp_path / "t10k-images-idx3-ubyte")
    with pytest.raises(DataError, match="also the labels of test"):
        load(tmp_path)


def test_plain_idx_beside_its_gz_is_read_once(tmp_path):
    idx_folder(idx_folder(tmp_path), gz=True)
    data = load(tmp_path)
    assert len(data.rows) == 40
    assert [f.code for f in data.findings] == ["data.ignored"]


def test_idx_labels_that_are_too_few(tmp_path):
    idx_folder(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(29, np.uint8)))
    with pytest.raises(DataError, match="30 images and 29 labels"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", r"\(none\)"),
        (b"\x89PNG....", "89 50 4e 47"),
        (b"\0\0\x07\x03", "00 00 07 03"),
        (b"\0\0\x08\x03\0\0", "6 bytes"),
        (idx_bytes(np.zeros((9, 5, 4), np.uint8))[:-1], r"195 bytes(.|\n)*196 bytes.*9 × 5 × 4 values of 1 byte"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "16 bytes"),
    ],
)
def test_corrupt_idx_headers_say_what_was_found_and_expected(tmp_path, data, says):
    idx_folder(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(data)
    with pytest.raises(DataError, match=says):
        load(tmp_path)


def test_idx_types_are_big_endian():
    array = np.array([[1, -2], [300, 4]], ">i4")
    parsed = parse_idx(idx_bytes(array, 0x0C), "x")
    assert parsed.dtype == np.int32
    assert (parsed == array).all()


@given(st.binary(max_size=64))
def test_idx_of_any_bytes_gives_an_array_or_a_data_error(junk):
    for data in (junk, b"\0\0" + junk, b"\0\0\x08\x01" + junk):
        with contextlib.suppress(DataError):
            assert isinstance(parse_idx(data, "x"), np.ndarray)


@given(junk=st.binary(max_size=200))
def test_damaged_gz_is_a_data_error(junk, tmp_path_factory):
    root = tmp_path_factory.getbasetemp() / "gz"
    if not root.exists():
        idx_folder(root, gz=True)
    whole = gzip.compress(idx_bytes(np.zeros((30, 5, 4), np.uint8)))
    (root / "train-images-idx3-ubyte.gz").write_bytes(whole[: len(whole) // 2] + junk)
    with pytest.raises(DataError):
        load(root)


# CIFAR


def cifar_folder(root, hundred=False, protocol=2, filenames=True, names=True):
    root.mkdir(parents=True, exist_ok=True)
    files = {"train": 40, "test": 10} if hundred else {"data_batch_1": 20, "data_batch_2": 20, "test_batch": 10}
    start = 0
    for name, n in files.items():
        data = np.random.default_rng(start).integers(0, 256, (n, 3072), dtype=np.uint8)
        key = b"fine_labels" if hundred else b"labels"
        batch = {b"batch_label": b"x", key: [i % 4 for i in range(n)], b"data": data}
        if hundred:
            batch[b"coarse_labels"] = [0] * n
        if filenames:
            batch[b"filenames"] = [b"a.png"] * n
        (root / name).write_bytes(pickle.dumps(batch, protocol))
        start += n
    if names:
        key, file = (b"fine_label_names", "meta") if hundred else (b"label_names", "batches.meta")
        (root / file).write_bytes(pickle.dumps({key: [b"ant", b"bee", b"cow", b"dog"]}, protocol))
    return root


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_pickles_of_every_protocol(tmp_path, hundred, protocol):
    data = load(cifar_folder(tmp_path, hundred, protocol))
    assert counts(data) == {"train": 36, "val": 4, "test": 10}
    assert data.classes == ("ant", "bee", "cow", "dog")
    assert data.input_shape == (3, 32, 32)
    x = np.random.default_rng(40).integers(0, 256, (10, 3072), dtype=np.uint8)
    assert (data.splits["test"].inputs.numpy().reshape(10, -1) == x).all()
    assert data.findings == ()


def test_arrays_are_found_below_wrapping_folders(tmp_path):
    for make, inner in ((idx_folder, "MNIST/raw"), (cifar_folder, "cifar-10-batches-py")):
        root = tmp_path / make.__name__
        make(root / inner)
        data, own = load(root), load(root / inner)
        assert data.contents == own.contents
        assert any(f"the folder {inner}/" in note for note in data.notes)


def test_cifar_100_without_the_names_of_its_classes(tmp_path):
    cifar_folder(tmp_path, hundred=True, names=False)
    assert load(tmp_path).classes == ("0", "1", "2", "3")


def test_cifar_without_filenames_and_names_inside_its_archive(tmp_path):
    cifar_folder(tmp_path / "cifar-10-batches-py", filenames=False, names=False)
    path = pack_tar(tmp_path / "c.tar.gz", tmp_path / "cifar-10-batches-py", "w:gz", "cifar-10-batches-py/")
    data = load(path)
    assert data.classes == ("0", "1", "2", "3")
    assert len(data.rows) == 50


# A protocol 0 pickle of {'data': uint8 array (1, 12), 'labels': [3]} as Python 2 wrote it.
PYTHON_2 = (
    b"(dp0\nS'data'\np1\ncnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\n"
    b"Rp7\n(I1\n(I1\nI12\ntp8\ncnumpy\ndtype\np9\n(S'u1'\np10\nI0\nI1\ntp11\nRp12\n(I3\nS'|'\np13\nNNNI-1\nI-1\nI0\n"
    b"tp14\nbI00\nS'abcdefghijk\\xff'\np15\ntp16\nbsS'labels'\np17\n(lp18\nI3\nas."
)


def test_python_2_pickles():
    content = load_plain(PYTHON_2, "x")
    assert content["labels"] == [3]
    assert content["data"].tobytes() == b"abcdefghijk\xff"
    assert content["data"].shape == (1, 12)


class Attack:
    def __reduce__(self):
        return (Path.touch, (Path("attacked"),))


@pytest.mark.parametrize(
    "data",
    [
        pickle.dumps({"data": Attack()}),
        b"cos\nsystem\n(S'touch attacked'\ntR.",
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        pickle.dumps({"data": np.array([Attack()], dtype=object)}),
        pickle.dumps([1, 2]),
        b"",
        b"\x80\x04\x95",
    ],
)
def test_pickles_never_run_anything(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        load_plain(data, "x")
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=200), st.integers(0, len(PYTHON_2)))
def test_damaged_pickles_give_a_dictionary_or_a_data_error(junk, cut):
    with contextlib.suppress(DataError):
        assert isinstance(load_plain(PYTHON_2[:cut] + junk, "x"), dict)


def test_cifar_with_wrong_shapes(tmp_path):
    cifar_folder(tmp_path)
    for batch in (
        {"data": np.zeros((2, 3000), np.uint8), "labels": [0, 1]},
        {"data": np.zeros((2, 3072)), "labels": [0, 1]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0]},
        {"labels": [0]},
        {"data": np.zeros((2, 3072), np.uint8), "labels": [0, 9]},
    ):
        (tmp_path / "data_batch_1").write_bytes(pickle.dumps(batch))
        with pytest.raises(DataError):
            load(tmp_path)


# npz


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def random(*shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


LABELS = np.arange(12) % 3


@pytest.mark.parametrize(
    ("x", "layout", "kind", "shape"),
    [
        (random(12, 5), "auto", "table", (5,)),
        (random(12, 5, 4), "auto", "image", (1, 5, 4)),
        (random(12, 5, 4, 3), "auto", "image", (3, 5, 4)),
        (random(12, 5, 4, 1), "auto", "image", (1, 5, 4)),
        (random(12, 3, 5, 6), "auto", "image", (3, 5, 6)),
        (random(12, 3, 5, 4), "NCHW", "image", (3, 5, 4)),
        (random(12, 3, 5, 3), "NHWC", "image", (3, 3, 5)),
        (random(12, 5, 4, 4), "auto", "grid", (4, 5, 4)),
        (random(12, 2, 5, 4, 4), "auto", "grid", (2, 5, 4, 4)),
        (random(12, 2, 5), "NCL", "grid", (2, 5)),
        (random(12, 5, 4, dtype=np.int64), "auto", "image", (1, 5, 4)),
        (random(12, 5, 4, dtype=np.int64) * 2, "auto", "grid", (1, 5, 4)),
        (random(12, 5, 4, dtype=np.float32) / np.float32(255), "auto", "image", (1, 5, 4)),
        (random(12, 5, 4) / 255, "auto", "image", (1, 5, 4)),
        (random(12, 5, 4) / 300, "auto", "grid", (1, 5, 4)),
        (random(12, 5, 4) > 99, "auto", "image", (1, 5, 4)),
    ],
)
def test_npz_inputs(tmp_path, x, layout, kind, shape):
    data = load(npz(tmp_path / "d.npz", x=x, y=LABELS), layout=layout)
    assert data.kind == kind
    assert data.input_shape == shape
    split = data.splits["train"]
    assert split.inputs.dtype == (torch.uint8 if kind == "image" else torch.float32)
    scale = 255 if kind == "image" and (x.dtype.kind in "fb") else 1
    source = np.moveaxis(x, -1, 1) if layout == "NHWC" or (layout == "auto" and x.ndim == 4 and x.shape[-1] < 5) else x
    expected = np.rint(source.astype(float) * scale) if kind == "image" else source.astype(np.float32)
    assert (split.inputs.numpy().reshape(-1) == expected[split.ids.numpy()].reshape(-1)).all()


def test_npz_splits_and_targets(tmp_path):
    data = load(
        npz(
            tmp_path / "d.npz",
            x_train=random(12, 4, 4),
            y_train=np.array(["b", "a", "ü"])[LABELS],
            x_val=random(3, 4, 4),
            y_val=np.array(["b", "a", "a"]),
            x_test=random(6, 4, 4),
            y_test=np.array(["b", "a", "ü"])[LABELS[:6]],
            note=np.zeros(1),
        )
    )
    assert data.classes == ("a", "b", "ü")
    assert counts(data) == {"train": 12, "val": 3, "test": 6}
    ignored = [f for f in data.findings if f.code == "data.ignored"]
    assert "note" in ignored[0].measured


def test_npz_names_its_classes(tmp_path):
    names = np.array(["chair", "desk", "sofa", "unused"])
    data = load(npz(tmp_path / "d.npz", x=random(12, 4, 4), y=LABELS, classes=names))
    assert data.classes == ("chair", "desk", "sofa")
    assert not [f for f in data.findings if f.code == "data.ignored"]
    for classes in (np.array(["a", "a", "a"]), np.arange(3)):  # not names of one class each, no text
        data = load(npz(tmp_path / "d.npz", x=random(12, 4, 4), y=LABELS, classes=classes))
        assert data.classes == ("0", "1", "2")
        (ignored,) = (f for f in data.findings if f.code == "data.ignored")
        assert "class names" in ignored.why
    labels = np.tile([[1, 1, 0, 0], [0, 1, 0, 1]], (6, 1))
    assert load(npz(tmp_path / "d.npz", x=random(12, 4, 4), y=labels, classes=names)).classes == tuple(names)


@pytest.mark.parametrize(
    ("y", "names", "got"),
    [
        (LABELS, ["a", "b"], "2 names for class numbers from 0 to 2"),
        (LABELS - 1, ["a", "b", "c"], "3 names for class numbers from -1 to 1"),
        (np.eye(3, dtype=int)[LABELS], ["a", "b"], "2 names for 3 columns"),
    ],
)
def test_too_few_names_of_classes_are_refused(tmp_path, y, names, got):
    with pytest.raises(DataError) as caught:
        load(npz(tmp_path / "d.npz", x=random(12, 4, 4), y=y, classes=np.array(names)))
    assert caught.value.got == got


def test_one_hot_rows_are_classes_and_floats_are_numbers_on_request(tmp_path):
    one_hot, names = np.eye(3, dtype=int)[LABELS], np.array(["a", "b", "c"])
    whole = load(npz(tmp_path / "whole.npz", x=random(12, 4, 4), y=one_hot))
    assert (whole.annotation, whole.classes) == ("class", ("0", "1", "2"))
    assert any("y.argmax(1)" in note for note in whole.notes)
    given = load(npz(tmp_path / "floats.npz", x=random(12, 4, 4), y=one_hot.astype(float), classes=names))
    assert (given.annotation, given.classes) == ("class", ("a", "b", "c"))
    assert any("--task regress" in note for note in given.notes)
    npz(tmp_path / "floats.npz", x=random(12, 4, 4), y=one_hot.astype(float))
    assert load(tmp_path / "floats.npz").classes == ("0", "1", "2")
    assert (list_source(DataConfig(source=str(tmp_path / "floats.npz")), "number").targets == one_hot).all()
    for name in ("whole", "floats"):
        config = DataConfig(source=str(tmp_path / f"{name}.npz"))
        for annotation, expected in (("class", LABELS), ("labels", one_hot)):
            assert (list_source(config, annotation).targets == expected).all()


def test_a_folder_of_npz_files_is_their_set(tmp_path):
    names = np.array(["chair", "desk", "sofa"])
    folder = tmp_path / "shapes"
    folder.mkdir()
    npz(folder / "Train.npz", X=random(12, 4, 4), y=LABELS, classes=names)
    (folder / "README.txt").write_text("shapes")
    alone = load(folder)
    assert (alone.name, alone.classes) == ("shapes", tuple(names))
    assert sum(counts(alone).values()) == 12
    assert load(folder, layout="NHW").input_shape == (1, 4, 4)

    npz(folder / "test.npz", X=random(6, 4, 4), y=LABELS[:6], classes=names)
    both = load(folder)
    made_run(folder, "runs/shapes-1")
    assert load(folder).fingerprint == both.fingerprint
    assert counts(both)["test"] == 6
    assert "Files: Train.npz (train) and test.npz (test)." in both.notes
    npz(folder / "test.npz", x_test=random(6, 4, 4), y_test=LABELS[:6])
    with pytest.raises(DataError, match=r"test\.npz"):
        load(folder)
    npz(folder / "more.npz", x=random(6, 4, 4), y=LABELS[:6])
    with pytest.raises(DataError, match="but no sample"):
        load(folder)


def test_npz_numbers(tmp_path):
    y = np.arange(24, dtype=np.float64).reshape(12, 2) + 0.5
    data = load(npz(tmp_path / "d.npz", x=random(12, 5), y=y))
    assert data.annotation == "number"
    assert data.target_names == ("y0", "y1")
    split = data.splits["train"]
    assert (split.targets.numpy() == y[split.ids.numpy()]).all()
    with pytest.raises(DataError, match="numbers with fractions"):
        load(tmp_path / "d.npz", annotation="class")
    whole = npz(tmp_path / "w.npz", x=random(12, 5), y=LABELS.astype(float) * 10)
    assert load(whole, annotation="class").classes == ("0", "10", "20")


def test_npz_masks(tmp_path):
    y = np.tile(np.array([[0, 5, 255], [5, 5, 0]]), (12, 1, 1))
    data = load(npz(tmp_path / "d.npz", x=random(12, 2, 3, 3), y=y))
    assert data.annotation == "mask"
    assert data.classes == ("0", "5")
    assert data.splits["train"].targets[0].tolist() == [[0, 1, 255], [1, 1, 0]]
    assert load(tmp_path / "d.npz", size=(4, 6)).splits["train"].targets[0].tolist() == [
        [0, 0, 1, 1, 255, 255],
        [0, 0, 1, 1, 255, 255],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
    ]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": random(12, 5)}, "or x and y"),
        ({"images": random(12, 5)}, "1 array: images of shape"),
        ({"x": random(12, 5), "y": LABELS, "x_train": random(2, 5)}, "x_train, y_train"),
        ({"x": random(12, 5), "y": LABELS[:5]}, "as many targets as inputs"),
        ({"x": random(12), "y": LABELS}, "1 axis"),
        ({"x": np.array([["a"]] * 12), "y": LABELS}, "numbers"),
        ({"x": random(0, 5), "y": LABELS[:0]}, "at least one sample"),
        ({"x": np.array(0), "y": np.array(0)}, "as many targets"),
        ({"x": random(12, 5), "y": random(12, 2, 2, 2)}, "reshape y"),
        ({"x": random(12, 5), "y": np.array([None] * 12)}, "Python objects"),
        ({"x": random(12, 4, 4), "y": random(12, 4, 5)}, "mask value for each pixel"),
        (
            {"x": np.where(np.arange(60).reshape(12, 5) == 17, np.nan, 1.0), "y": LABELS},
            r"sample 00003, position \(2,\)",
        ),
        ({"x": np.full((12, 5), 1e300), "y": LABELS}, "float32 can hold"),
        ({"x": random(12, 5), "y": np.full(12, np.inf)}, "targets, sample 00000"),
        ({"x_train": random(12, 5), "y_train": LABELS, "x_test": random(3, 6), "y_test": LABELS[:3]}, "one shape"),
    ],
)
def test_npz_errors(tmp_path, arrays, says):
    np.savez(tmp_path / "d.npz", **arrays, allow_pickle=True)
    with pytest.raises(DataError, match=says):
        list_npz(tmp_path / "d.npz", "auto")


def test_npz_layout_that_does_not_fit(tmp_path):
    path = npz(tmp_path / "d.npz", x=random(12, 5), y=LABELS)
    with pytest.raises(DataError, match="NHWC, 4 axes"):
        load(path, layout="NHWC")
    with pytest.raises(ConfigError, match="leave out --size"):
        load(path, size=(4, 4))
    with pytest.raises(ConfigError, match="a layout belongs to"):
        load("iris", layout="NF")


@given(st.data())
def test_damaged_npz_gives_a_listing_or_a_data_error(data):
    import tempfile

    out = io.BytesIO()
    np.savez(out, x=random(12, 5), y=LABELS)
    damaged = bytearray(out.getvalue())
    for _ in range(data.draw(st.integers(1, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.npz"
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            list_npz(path, "auto")


# SVHN


def svhn_file(path, n, **extra):
    from scipy.io import savemat

    x = np.random.default_rng(n).integers(0, 256, (8, 8, 3, n), dtype=np.uint8)
    savemat(path, {"X": x, "y": (np.arange(n) % 10 + 1).astype(np.uint8)[:, None]} | extra)
    return x


def test_svhn(tmp_path):
    svhn_file(tmp_path / "train_32x32.mat", 40)
    x = svhn_file(tmp_path / "test_32x32.mat", 20)
    svhn_file(tmp_path / "extra_32x32.mat", 5)
    data = load(tmp_path)
    assert data.classes == tuple("0123456789")
    test = data.splits["test"]
    assert (test.inputs.numpy() == x.transpose(3, 2, 0, 1)).all()
    assert test.targets[:10].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    assert "extra_32x32.mat" in data.findings[0].measured
    assert len(list_svhn_file(tmp_path / "train_32x32.mat")) == 40


def test_svhn_damaged(tmp_path):
    (tmp_path / "train_32x32.mat").write_bytes(b"MATLAB 5.0 nothing" * 20)
    with pytest.raises(DataError, match="MATLAB 5 file"):
        load(tmp_path)
    svhn_file(tmp_path / "train_32x32.mat", 4, X=np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"X of shape \(2, 2\)"):
        load(tmp_path)


# Masks


def mask_folder(root, values=((0, 1), (1, 0)), count=6, size=(6, 4), prefix=""):
    for i in range(count):
        picture(root / prefix / "images" / f"{i}.jpg", (9 * i, 5, 5), size, "RGB")
        (root / prefix / "masks").mkdir(exist_ok=True)
        block = np.kron(np.array(values, np.uint8), np.ones((size[1] // 2, size[0] // 2), np.uint8))
        Image.fromarray(block).save(root / prefix / "masks" / f"{i}.png")
    return root


def test_masks(tmp_path):
    data = load(mask_folder(tmp_path, [[7, 3], [255, 3]]))
    assert data.annotation == "mask"
    assert data.classes == ("3", "7")
    target = data.splits["train"].targets[0]
    assert target.dtype == torch.uint8
    assert target[:, ::3].tolist() == [[1, 0], [1, 0], [255, 0], [255, 0]]
    assert rows(data)[0][:2] == ("images/0.jpg", "masks/0.png")


def test_binary_masks_of_0_and_255_are_two_classes(tmp_path):
    data = load(mask_folder(tmp_path, [[0, 255], [255, 0]]))
    assert data.classes == ("0", "255")
    assert data.splits["train"].targets[0, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_masks_move_with_their_image_and_borders_are_ignored(tmp_path):
    root = mask_folder(tmp_path, [[0, 1], [1, 0]], size=(8, 4))
    pad = load(root, size=(8, 8), fit="pad").splits["train"].targets[0]
    assert (pad[:2] == 255).all()
    assert (pad[6:] == 255).all()
    assert pad[2].tolist() == [0] * 4 + [1] * 4
    crop = load(root, size=(4, 4), fit="crop").splits["train"].targets[0]
    assert crop.tolist() == [[0, 0, 1, 1]] * 2 + [[1, 1, 0, 0]] * 2
    assert load(root, size=(2, 2), fit="stretch").splits["train"].targets[0].tolist() == [[0, 1], [1, 0]]


def test_masks_under_given_splits(tmp_path):
    for split in ("train", "val", "test"):
        mask_folder(tmp_path, prefix=split, count=2)
    data = load(tmp_path)
    assert counts(data) == {"train": 2, "val": 2, "test": 2}
    assert [f.code for f in data.findings] == ["data.leak"]


def test_mask_errors(tmp_path):
    root = mask_folder(tmp_path / "a")
    Image.new("L", (5, 4)).save(root / "masks" / "3.png")
    with pytest.raises(DataError, match="4 × 5 pixels"):
        load(root)
    (root / "masks" / "3.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 images without a mask: images/3\.jpg"):
        load(root)
    with pytest.raises(DataError, match="only the value 4"):
        load(mask_folder(tmp_path / "b", [[4, 4], [4, 4]]))
    root = mask_folder(tmp_path / "c")
    picture(root / "images" / "3.png")
    with pytest.raises(DataError, match=r"images/3.jpg and images/3.png"):
        load(root)


def test_a_mask_that_cannot_be_read_makes_its_sample_unreadable(tmp_path):
    root = mask_folder(tmp_path)
    (root / "masks" / "3.png").write_bytes(b"no picture")
    picture(root / "masks" / "lonely.png")
    data = load(root)
    assert ("images/3.jpg", "masks/3.png", "unreadable") in rows(data)
    assert {f.code for f in data.findings} == {"data.unreadable", "data.misplaced"}
