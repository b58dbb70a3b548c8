"""Sources that are damaged, hostile or strangely named: a DataError or an unreadable sample, never a traceback."""

import contextlib
import csv
import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from made_data import png
from striate.data.config import DataConfig
from striate.data.dataset import Preparation
from striate.data.listing import order_classes
from striate.data.predict_inputs import list_inputs, read_inputs
from striate.data.read import load_dataset
from striate.data.sources import named
from striate.data.sources import tree as tree_module
from striate.data.sources.npz import list_npz
from striate.data.sources.svhn import list_svhn_file
from striate.data.sources.unpickle import load_plain
from striate.errors import DataError


def load(path, annotation=None, **fields):
    return load_dataset(DataConfig(source=str(path), **fields), annotation=annotation)


def classes(root, names=("cat", "dog"), count=5):
    for k, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(count):
            (root / name / f"{i}.png").write_bytes(png(20 * k + i))
    return root


# Pickles


def doublings(levels):
    """A pickle of {'data': [[…], […]]}, in which each list holds the next one twice."""
    # empty list, then `levels` times: put it aside, mark, get it twice, make a list of the two.
    body = b"]" + b"".join(b"q" + bytes([i]) + b"0" + b"(" + 2 * (b"h" + bytes([i])) + b"l" for i in range(levels))
    return b"\x80\x02}X\x04\x00\x00\x00data" + body + b"s."


def tuple_doublings(levels, end):
    body = b")" + b"".join(b"q" + bytes([i]) + b"h" + bytes([i]) + b"\x86" for i in range(levels))
    return b"\x80\x04" + end.replace(b"BODY", body) + b"."


def test_shared_lists_are_not_written_out():
    value = load_plain(doublings(200), "x")["data"]
    for _ in range(200):
        first, second = value
        assert first is second
        value = first
    assert value == []


@pytest.mark.parametrize(
    "end",
    [b"}BODYK\x01s", b"}(BODYK\x01u", b"(BODYK\x01d", b"(BODY\x91", b"\x8f(BODY\x90", b"BODYQ"],
    ids=["setitem", "setitems", "dict", "frozenset", "set", "persistent"],
)
def test_shared_tuples_are_never_hashed_or_written_out(end):
    with pytest.raises(DataError, match="not plain data"):
        load_plain(tuple_doublings(200, end), "x")


def test_a_pickle_that_describes_an_array_by_endless_parts():
    dtype = b"cnumpy\ndtype\n" + tuple_doublings(200, b"BODY")[2:-1] + b"\x85R"
    with pytest.raises(DataError, match="where there should be text"):
        load_plain(b"\x80\x04" + dtype + b".", "x")


def test_a_pickle_cannot_change_what_rebuilds_arrays():
    state = b"N}X\x0c\x00\x00\x00__defaults__N\x85s\x86b"  # (None, {'__defaults__': (None,)}), then BUILD
    with pytest.raises(DataError, match="a state for what has none"):
        load_plain(b"\x80\x04c_codecs\nencode\n" + state + b".", "x")
    assert load_plain(pickle.dumps({"data": np.arange(4)}, 2), "x")["data"].tolist() == [0, 1, 2, 3]


def test_lists_that_hold_themselves_are_no_trouble():
    loop = [1]
    loop.append(loop)
    found = load_plain(pickle.dumps({"a": loop}), "x")["a"]
    assert found[1] is found


# Members of archives


@pytest.mark.each_nth(3)
@pytest.mark.parametrize(
    "method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA], ids=str
)
@pytest.mark.parametrize("at", [0, 4, 12, 20])
def test_damage_in_a_member_makes_it_unreadable(tmp_path, method, at):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for item in sorted(classes(tmp_path / "files").rglob("*.png")):
            archive.writestr(item.relative_to(tmp_path / "files").as_posix(), item.read_bytes())
        member = archive.getinfo("dog/3.png")
    data = bytearray(path.read_bytes())
    start = member.header_offset + 30 + len("dog/3.png") + at
    for place in range(start, start + 6):
        data[place] ^= 0xFF
    path.write_bytes(data)
    rows = {row.path: row.split for row in load(path).rows}
    assert [name for name, split in rows.items() if split == "unreadable"] == ["dog/3.png"]


@pytest.mark.slow
@given(st.data())
def test_damaged_zips_of_every_method_give_only_data_errors(data):
    import tempfile

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for k in range(2):
            for i, method in enumerate((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
                archive.writestr(f"{k}/{i}.png", png(20 * k + i), method)
    damaged = bytearray(out.getvalue())
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.zip"
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            load(path)


def test_a_damaged_lzma_array_is_a_data_error(tmp_path):
    path = tmp_path / "x.npz"
    array = io.BytesIO()
    np.save(array, np.zeros((12, 5)))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", array.getvalue())
        archive.writestr("y.npy", array.getvalue())
        start = archive.getinfo("x.npy").header_offset + 30 + len("x.npy")
    data = bytearray(path.read_bytes())
    data[start + 4] = 0xFF  # properties that LZMA does not have
    path.write_bytes(data)
    with pytest.raises(DataError, match="NumPy does not use"):
        list_npz(path, "auto")


# MATLAB files


def mat(path, x, **options):
    from scipy.io import savemat

    savemat(path, {"X": x, "y": np.ones((x.shape[-1], 1), np.uint8)}, **options)
    return path


def test_a_mat_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 1 << 20)
    monkeypatch.setattr(tree_module, "LARGEST_RATIO", 2)
    x = np.zeros((32, 32, 3, 1000), np.uint8)
    with pytest.raises(DataError, match="more than 1,048,576 bytes from"):
        list_svhn_file(mat(tmp_path / "x.mat", x, do_compression=True))
    assert len(list_svhn_file(mat(tmp_path / "y.mat", x[..., :300], do_compression=True))) == 300


def test_a_mat_file_that_declares_little_and_holds_much_is_refused(tmp_path, monkeypatch):
    path = mat(tmp_path / "x.mat", np.zeros((32, 32, 3, 1000), np.uint8), do_compression=True)
    data = path.read_bytes()
    size = struct.unpack("<I", data[132:136])[0]
    inner = zlib.decompress(data[136 : 136 + size])
    place = inner.index(struct.pack("<4i", 32, 32, 3, 1000))
    inner = inner[: place + 12] + struct.pack("<i", 1) + inner[place + 16 :]
    packed = zlib.compress(inner)
    path.write_bytes(data[:132] + struct.pack("<I", len(packed)) + packed + data[136 + size :])
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 1 << 20)
    monkeypatch.setattr(tree_module, "LARGEST_RATIO", 2)
    with pytest.raises(DataError, match="more than 1,048,576 bytes from"):
        list_svhn_file(path)


def test_a_mat_file_that_declares_much_and_holds_little_is_refused(tmp_path):
    path = mat(tmp_path / "x.mat", np.zeros((4, 4, 3, 5), np.uint8))
    data = path.read_bytes()
    place = data.index(struct.pack("<4i", 4, 4, 3, 5))
    path.write_bytes(data[:place] + struct.pack("<4i", 4096, 4096, 3, 4096) + data[place + 16 :])
    with pytest.raises(DataError, match="more than 268,435,456 bytes from"):
        list_svhn_file(path)


# Names


@pytest.mark.parametrize("name", ["cat\n", "a\nb", "\x1b[31m", "a\u2028b", "tab\t", "   "])
def test_class_names_that_are_no_line_of_text_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="the class name") as caught:
        load(classes(tmp_path, (name, "dog")))
    assert repr(name) in caught.value.got
    assert "rename" in caught.value.remedy


def test_class_names_of_manifests_and_arrays_are_checked_too(tmp_path):
    classes(tmp_path)
    rows = "".join(f'{name}/{i}.png,"{name}\nx"\n' for name in ("cat", "dog") for i in range(5))
    (tmp_path / "list.csv").write_text("path,label\n" + rows)
    with pytest.raises(DataError, match=r"the class name 'cat\\nx'"):
        load(tmp_path / "list.csv")
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 5, 4), np.uint8), y=np.array(["a", "\ud800", "a", "b"]))
    with pytest.raises(DataError, match=r"the class name '\\ud800'"):
        load(tmp_path / "d.npz")


def test_class_names_that_only_look_like_numbers():
    assert order_classes(["--5", "3", "10"]) == ("--5", "10", "3")
    assert order_classes(["-5", "3", "10"]) == ("-5", "3", "10")
    assert order_classes(["1" * 5000, "3"]) == ("1" * 5000, "3")


def raw_names(root):
    """Two classes; a class folder, a file and a text file have names that are not UTF-8."""
    classes(root)
    (root / "cat").rename(os.fsdecode(os.fsencode(root) + b"/c\xe4t"))
    folder = os.fsencode(root) + b"/c\xe4t/"
    for name, data in ((b"\xff\xfe.png", png(77)), (b"bad\xff.png", b"no picture"), (b"\xff.txt", b"x")):
        Path(os.fsdecode(folder + name)).write_bytes(data)
    return root


def written(data):
    """All that a run writes of the names: whatever is in it must be text."""
    rows = io.StringIO()
    csv.writer(rows).writerows((row.path, row.label, row.split) for row in data.rows)
    return "\n".join([rows.getvalue(), *data.classes, *data.notes, *map(str, data.findings)]).encode()


def test_names_that_are_not_utf_8_are_escaped_and_their_files_read(tmp_path):
    data = load(raw_names(tmp_path / "d"))
    assert data.classes == ("c\\xe4t", "dog")
    split = {row.path: row.split for row in data.rows}
    assert split["c\\xe4t/\\xff\\xfe.png"] in ("train", "val", "test")
    assert split["c\\xe4t/bad\\xff.png"] == "unreadable"
    assert sum(len(part) for part in data.splits.values()) == 11
    assert any((part.inputs == 77).all(1).all(1).all(1).any() for part in data.splits.values())
    assert b"\\xff.txt" in written(data)


def test_names_in_a_tar_that_are_not_utf_8(tmp_path):
    root = raw_names(tmp_path / "d")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(root, "")
    data = load(tmp_path / "x.tar")
    assert data.fingerprint == load(root).fingerprint
    assert written(data) == written(load(root)).replace(bytes(root), bytes(tmp_path / "x.tar"))


def test_inputs_whose_names_are_not_utf_8_are_read(tmp_path):
    files, ignored = list_inputs([raw_names(tmp_path / "d")])
    assert (len(files), ignored) == (12, 1)
    read = list(read_inputs(files, Preparation("image", (1, 4, 6))))
    names = [Path(item.path).name for item in read if item.error]
    assert names == ["bad\\xff.png"]
    assert all(item.path.encode() for item in read)
    with pytest.raises(DataError, match=r"nope\\xff"):
        list_inputs([os.fsdecode(b"nope\xff")])


def test_a_source_whose_path_is_not_utf_8_is_refused(tmp_path):
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/d\xff"))
    classes(root)
    with pytest.raises(DataError, match=r"a path that is not UTF-8: .*d\\xff") as caught:
        load(root)
    assert str(caught.value).encode()


# Paths


ABSURD = ["x" * 300, "x/" * 3000, "\0", "a\0b.npz", "/dev/null", "/dev/null/x", "x" * 300 + ".npz", "", " "]


@pytest.mark.parametrize("source", ABSURD, ids=lambda source: repr(source[:12]))
@pytest.mark.parametrize("layout", ["auto", "NCHW"])
def test_absurd_sources_are_data_errors(tmp_path, monkeypatch, source, layout):
    monkeypatch.chdir(classes(tmp_path))  # what lies here is not meant by an empty name
    with pytest.raises(ValueError, match="got:") as caught:
        load(source, layout=layout)
    assert isinstance(caught.value, DataError) or layout != "auto"


@pytest.mark.parametrize("path", ["x" * 300, "\0", "nope"])
def test_absurd_inputs_are_data_errors(path):
    with pytest.raises(DataError):
        list_inputs([path])


def deny(monkeypatch, *names):
    """Every look at a path with one of these parts fails, as for somebody who may not."""
    real = os.stat

    def stat(path, *args, **kwargs):
        if not isinstance(path, int) and set(names) & set(Path(os.fsdecode(path)).parts):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", stat)


def test_what_may_not_be_looked_at_is_a_data_error(tmp_path, monkeypatch):
    classes(tmp_path / "closed" / "d")
    monkeypatch.setenv("STRIATE_DATA", str(tmp_path / "closed"))
    deny(monkeypatch, "closed")
    for source in (tmp_path / "closed" / "d", tmp_path / "closed" / "x.npz"):
        with pytest.raises(DataError, match="Permission denied"):
            load(source)
    with pytest.raises(DataError, match="Permission denied"):
        list_inputs([tmp_path / "closed" / "d"])
    assert named.find("cifar10") is None


def test_a_folder_within_that_may_not_be_looked_at(tmp_path, monkeypatch):
    classes(tmp_path, ("cat", "dog", "closed"))
    deny(monkeypatch, "closed")
    with pytest.raises(DataError, match="Permission denied"):
        load(tmp_path)


def test_a_file_that_may_not_be_read_is_an_input_with_its_error(tmp_path, monkeypatch):
    classes(tmp_path, ("cat", "closed"), 1)
    reading = read_inputs(list_inputs([tmp_path])[0], Preparation("image", (1, 4, 6)))
    deny(monkeypatch, "closed")
    read = list(reading)
    assert [item.error for item in read] == [None, "Permission denied"]


def test_a_disk_that_fails_is_a_data_error(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("striate.data.sources.list_source.list_manifest", fail)
    (tmp_path / "x.csv").write_text("")
    with pytest.raises(DataError, match="Input/output error"):
        load(tmp_path / "x.csv")


@pytest.mark.parametrize("seed", [-1, 2**63, 10**70])
def test_a_seed_of_splits_is_bounded(seed):
    with pytest.raises(ValidationError):
        TypeAdapter(DataConfig).validate_python({"split_seed": seed})


def test_the_largest_seed_of_splits_works(tmp_path):
    config = TypeAdapter(DataConfig).validate_python({"split_seed": 2**63 - 1, "source": str(classes(tmp_path))})
    assert len(load_dataset(config).splits["train"]) == 6
