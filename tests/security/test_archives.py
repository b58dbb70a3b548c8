"""Archives from strangers: nothing leaves its folder, nothing unpacks without end, nothing but files is read."""

from __future__ import annotations

import base64
import gzip
import io
import struct
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from made_data import png
from striate.data.config import DataConfig
from striate.data.sources import archive as archive_module
from striate.data.sources import tree as tree_module
from striate.data.sources.list_source import list_source
from striate.errors import DataError


def pictures() -> dict[str, bytes]:
    return {f"{name}/{i}.png": png(20 * k + i) for k, name in enumerate(("cat", "dog")) for i in range(4)}


def tar_with(path: Path, member: tarfile.TarInfo, content: bytes = b"", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in pictures().items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


MEMBERS = {
    "dots": (member("../../out.png"), "leads outside"),
    "dots-within": (member("cat/../../out.png"), "leads outside"),
    "absolute": (member("/tmp/out.png"), "absolute path"),
    "drive": (member("C:/out.png"), "absolute path"),
    "backslashes": (member("..\\..\\out.png"), "leads outside"),
    "share": (member("\\\\server\\share\\out.png"), "absolute path"),
    "symbolic-link": (member("cat/x.png", tarfile.SYMTYPE, "/etc/passwd"), "a link"),
    "hard-link": (member("cat/x.png", tarfile.LNKTYPE, "cat/0.png"), "a link"),
    "character-device": (member("cat/x.png", tarfile.CHRTYPE), "a device"),
    "block-device": (member("cat/x.png", tarfile.BLKTYPE), "a device"),
    "pipe": (member("cat/x.png", tarfile.FIFOTYPE), "a device"),
    "twice": (member("cat/0.png"), "occurs twice"),
    "sparse": (member("cat/x.png", tarfile.GNUTYPE_SPARSE), "special file"),
}


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_hostile_member_of_a_tar_is_refused_and_nothing_is_written(striate, tmp_path, name, suffix) -> None:
    info, words = MEMBERS[name]
    path = tar_with(tmp_path / f"x{suffix}", info, b"content", "w:gz" if suffix.endswith("gz") else "w")
    before = sorted(tmp_path.rglob("*"))
    striate("data", "show", path, "--out", "sheet.png").refused(words)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../../out.png", "leads outside"),
        ("/tmp/out.png", "absolute path"),
        ("C:\\out.png", "absolute path"),
        ("..\\out.png", "leads outside"),
        ("cat/0.png", "occurs twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_hostile_member_of_a_zip_is_refused(striate, name, words) -> None:
    with zipfile.ZipFile("x.zip", "w") as archive:
        for file, data in pictures().items():
            archive.writestr(file, data)
        archive.writestr(name, b"content")
    striate("data", "show", "x.zip", "--out", "sheet.png").refused(words)


@pytest.mark.parametrize("mode", [0o120777, 0o020644, 0o060644, 0o010644], ids=["link", "device", "block", "pipe"])
def test_a_special_file_in_a_zip_is_refused(striate, mode) -> None:
    with zipfile.ZipFile("x.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/x.png")
        info.external_attr = mode << 16
        archive.writestr(info, "/etc/passwd")
    striate("data", "show", "x.zip", "--out", "sheet.png").refused("a link or another special file")


def test_a_name_with_a_zero_byte_and_one_of_escape_codes(striate) -> None:
    tar_with(Path("x.tar"), member("cat/\x1b[2J\x9b1m\nerror: none.png"), b"no picture")
    told = striate("data", "show", "x.tar", "--out", "sheet.png", "--json")
    assert told.code == 1
    assert "\x1b" not in told.err + told.out
    assert "\x9b" not in told.err + told.out
    header = member("cat/zero.png")
    header.size = 0
    raw = bytearray(header.tobuf(tarfile.PAX_FORMAT))
    raw[0:12] = b"a\xffb\0c/../x.n"
    Path("y.tar").write_bytes(raw + bytes(1024))
    striate("data", "show", "y.tar", "--out", "sheet.png").refused()


def test_a_size_below_zero_does_not_lead_back_for_ever(striate) -> None:
    data = bytearray()
    for size in (0, -1024):
        info = member("cat/0.png")
        raw = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        raw[124:136] = b"\xff" + (256**11 + size).to_bytes(11, "big") if size else raw[124:136]
        raw[148:156] = b" " * 8
        raw[148:156] = f"{sum(raw):06o}\0 ".encode()
        data += raw
    Path("x.tar").write_bytes(bytes(data) + bytes(1024))
    striate("data", "show", "x.tar", "--out", "sheet.png").refused("archive")


def test_a_bomb_of_zeros_is_given_up_while_it_is_unpacked(striate, monkeypatch) -> None:
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 1 << 20)
    tar_with(Path("x.tar.gz"), member("cat/x.png"), bytes(4 << 20), "w:gz")
    striate("data", "show", "x.tar.gz", "--out", "sheet.png").refused("more than 1,048,576 bytes from")
    with zipfile.ZipFile("x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", bytes(4 << 20))
    striate("data", "show", "x.zip", "--out", "sheet.png").refused("more than 1,048,576 bytes from")


def test_members_of_a_zip_that_share_their_bytes_count_each(striate, monkeypatch) -> None:
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 1 << 20)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/00.png", bytes(200_000))
    data = out.getvalue()
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = data[start:end]
    entries = b"".join(entry.replace(b"cat/00", f"cat/{i:02}".encode()) for i in range(50))
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, len(entries), start, 0)
    Path("x.zip").write_bytes(data[:start] + entries + tail)
    striate("data", "show", "x.zip", "--out", "sheet.png").refused("more than 1,048,576 bytes from")


def test_a_gzip_that_holds_a_bomb_within_a_folder(striate, monkeypatch) -> None:
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 1 << 20)
    Path("set").mkdir()
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 4 << 20, 1, 1)
    Path("set/train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(4 << 20)))
    Path("set/train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8)))
    striate("data", "show", "set", "--out", "sheet.png").refused("more than 1,048,576 bytes from")


@pytest.mark.parametrize("form", ["idx", "mat"])
def test_arrays_that_declare_more_than_may_be_are_refused_before_they_are_unpacked(monkeypatch, form) -> None:
    monkeypatch.setattr(tree_module, "SMALLEST_LIMIT", 8 << 20)
    if form == "idx":
        header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 32 << 20, 1, 1)
        Path("train-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + bytes(32 << 20)))
        Path("train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8)))
    else:
        savemat("x.mat", {"X": np.zeros((32, 32, 3, 10_000), np.uint8), "y": np.ones(1)}, do_compression=True)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 8,388,608 bytes from"):
            list_source(DataConfig(source="train-images-idx3-ubyte.gz" if form == "idx" else "x.mat"))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


ZEROS_150_MIB = (
    "QlpoOTFBWSZTWQ4J4t8BX45AAMAAAAggADCATUZCoCWpCoCXMUFZJlNZDgni3wFfjkAAwAAACCAAMIBNRkKgJakKgJcxQVkmU1kO"
    "CeLfAV+OQADAAAAIIAAwgE1GQqAlqQqAlzFBWSZTWQ9UziwAlglBAMAAAgAACCAAMMwFKaZECkbFECkeLuSKcKEgtl8sLA=="
)
"""Packed by bzip2."""


@pytest.mark.slow
def test_a_member_that_declares_little_and_unpacks_to_much_is_given_up_on_the_way() -> None:
    packed = base64.b64decode(ZEROS_150_MIB)
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("cat/0.png", packed)
    data = bytearray(Path("x.zip").read_bytes())
    for start in (8, data.index(b"PK\x01\x02") + 10):
        data[start] = zipfile.ZIP_BZIP2
        struct.pack_into("<I", data, start + 14, 90)
    Path("x.zip").write_bytes(data)
    tree = archive_module.archive_tree(Path("x.zip"))
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="not of the size it declares"):
            tree.read("cat/0.png")
        assert tracemalloc.get_traced_memory()[1] < 120 << 20  # bzip2 gives blocks of 46 megabytes
    finally:
        tracemalloc.stop()


def test_a_list_of_attributes_without_end_is_refused_by_its_header() -> None:
    header = member("x", tarfile.XHDTYPE)
    header.size = 16 << 20
    with gzip.open("x.tar.gz", "wb", 1) as out:
        out.write(header.tobuf(tarfile.USTAR_FORMAT) + b"0" * header.size + bytes(1024))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="a header of 16,777,216 bytes"):
            archive_module.archive_tree(Path("x.tar.gz"))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_an_archive_that_is_cut_off_between_two_files_is_no_smaller_archive(striate) -> None:
    tar_with(Path("x.tar"), member("cat/x.png"), png())
    whole = Path("x.tar").read_bytes()
    with tarfile.open("x.tar") as archive:
        starts = [one.offset for one in archive.getmembers()]
    for end in (starts[3], starts[-1] + 512 + 512 * -(-len(png()) // 512)):
        Path("cut.tar").write_bytes(whole[:end])
        striate("data", "show", "cut.tar", "--out", "sheet.png").refused("without the mark of its end")


def test_an_archive_in_an_archive_is_not_opened(striate) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("cat/0.png", bytes(1 << 20))
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr("cat/0.zip", inner.getvalue())
    striate("data", "show", "x.zip", "--out", "sheet.png").refused("no sample")


def test_very_many_members_are_refused(striate, monkeypatch) -> None:
    monkeypatch.setattr(tree_module, "MAX_MEMBERS", 1000)
    with tarfile.open("x.tar", "w") as archive:
        for i in range(1002):
            archive.addfile(member(f"cat/{i}.png"))
    striate("data", "show", "x.tar", "--out", "sheet.png").refused("more than 1,000 members")
    with zipfile.ZipFile("x.zip", "w") as packed:
        for i in range(1002):
            packed.writestr(f"cat/{i}.png", b"")
    striate("data", "show", "x.zip", "--out", "sheet.png").refused("more than 1,000 members")


def test_a_name_of_very_many_folders_is_refused(striate, monkeypatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_FOLDER_NAMES", 1 << 20)
    deep = "a/" * 20_000 + "0.png"  # the paths of its folders have 400 million characters
    tar_with(Path("x.tar"), member(deep))
    striate("data", "show", "x.tar", "--out", "sheet.png").refused("more than 1,048,576 characters")
    with zipfile.ZipFile("x.zip", "w") as archive:
        archive.writestr(deep, png())
    striate("data", "show", "x.zip", "--out", "sheet.png").refused("more than 1,048,576 characters")


@pytest.mark.slow
def test_a_million_members_take_memory_by_the_size_of_the_archive(measured) -> None:
    header = member("cat/0000000.png").tobuf(tarfile.USTAR_FORMAT)
    with gzip.open("x.tar.gz", "wb", 1) as out:
        for i in range(1_000_000):
            raw = bytearray(header)
            raw[4:11] = f"{i:07}".encode()
            raw[148:156] = b" " * 8
            raw[148:156] = f"{sum(raw):06o}\0 ".encode()
            out.write(raw)
        out.write(bytes(1024))
    (told,) = measured(("data", "show", "x.tar.gz", "--out", "sheet.png"))
    assert told.code == 2
    assert told.memory < 2000
