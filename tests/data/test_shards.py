"""WebDataset shards: what is written is what was there, and what is read is any other data set."""

from __future__ import annotations

import errno
import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from striate.api import index_data
from striate.cli.main import main
from striate.data import write_shards as write_shards_module
from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.read import load_dataset
from striate.data.write_shards import write_shards
from striate.errors import DataError


def tar(path: Path, files: Mapping[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def samples(data: Dataset) -> dict[str, set[str]]:
    return {name: set(contents) for name, contents in data.contents.items()}


def whole(data: Dataset) -> set[str]:
    return set().union(*samples(data).values())


@pytest.fixture(scope="module")
def shards(same_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The photos in shards of a few samples each."""
    out = tmp_path_factory.mktemp("shards") / "photos"
    write_shards(DataConfig(source=str(same_photos)), out, 0.02)
    return out


def test_shards_hold_the_pictures_as_they_are(same_photos: Path, shards: Path) -> None:
    assert len(list(shards.glob("data-*.tar"))) > 2
    expected, found = load_dataset(DataConfig(source=str(same_photos))), load_dataset(DataConfig(source=str(shards)))
    assert found.classes == expected.classes == ("blue", "green", "red")
    assert whole(found) == whole(expected)
    by_class = {row.label: 0 for row in found.rows}
    for row in found.rows:
        by_class[row.label] += 1
    assert by_class == {"blue": 12, "green": 12, "red": 12}
    assert found.rows[0].path.startswith("data-000000.tar/")


def test_folder_pattern_and_file_are_the_same_data(shards: Path) -> None:
    names = sorted(path.name for path in shards.glob("*.tar"))
    pattern = str(shards / f"data-{{000000..{len(names) - 1:06}}}.tar")
    folder, named = load_dataset(DataConfig(source=str(shards))), load_dataset(DataConfig(source=pattern))
    assert named.fingerprint == folder.fingerprint
    assert named.source == pattern
    alone = load_dataset(DataConfig(source=str(shards / names[0])))
    assert whole(alone) < whole(folder)
    assert alone.classes == folder.classes


def test_decoding_as_it_goes_gives_what_memory_has(shards: Path) -> None:
    memory = load_dataset(DataConfig(source=str(shards), store="memory"))
    stream = load_dataset(DataConfig(source=str(shards), store="stream"))
    for name, split in memory.splits.items():
        assert stream.splits[name].inputs[:].equal(split.inputs[:])
        assert stream.splits[name].ids.equal(split.ids)


def test_given_splits_are_kept(photos, tmp_path: Path) -> None:
    for name in ("train", "test"):
        photos(name=f"given/{name}", each=4 if name == "train" else 2)
    made = write_shards(DataConfig(source=str(tmp_path / "given")), tmp_path / "out")
    assert (made.samples, made.shards) == (18, 2)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "classes.txt",
        "shards.json",
        "test-000000.tar",
        "train-000000.tar",
    ]
    data = load_dataset(DataConfig(source=str(tmp_path / "out")))
    assert len(data.splits["test"]) == 6


@pytest.mark.slow
def test_arrays_become_pictures_without_loss(tmp_path: Path) -> None:
    write_shards(DataConfig(source="digits"), tmp_path / "digits")
    found, expected = (
        load_dataset(DataConfig(source=str(tmp_path / "digits"))),
        load_dataset(DataConfig(source="digits")),
    )
    assert sum(map(len, found.splits.values())) == sum(map(len, expected.splits.values()))
    assert sum(int(split.inputs.sum()) for split in found.splits.values()) == sum(
        int(split.inputs.sum()) for split in expected.splits.values()
    )


def test_the_same_data_give_the_same_bytes(same_photos: Path, shards: Path, tmp_path: Path) -> None:
    write_shards(DataConfig(source=str(same_photos)), tmp_path / "again", 0.02)
    for path in shards.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_webdataset_reads_them(shards: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    read = []
    for path in sorted(shards.glob("*.tar")):
        with path.open("rb") as file:  # given a path, the library leaves that to the garbage collector
            files = ({**part, "__url__": path.name} for part in webdataset.tariterators.tar_file_iterator(file))
            grouped = webdataset.tariterators.group_by_keys(files)
            read += [(sample["png"], sample["cls"]) for sample in grouped]
    assert len(read) == 36
    brightest = {b"0": 2, b"1": 1, b"2": 0}  # channels of blue, green, red
    for picture, number in read:
        assert int(np.asarray(Image.open(io.BytesIO(picture))).mean((0, 1)).argmax()) == brightest[number]


def test_numbers_without_names_are_classes(tmp_path: Path) -> None:
    tar(
        tmp_path / "x.tar", {f"a/{k}.{e}": c for k in range(20) for e, c in (("png", png(k)), ("cls", b"%d" % (k % 2)))}
    )
    assert load_dataset(DataConfig(source=str(tmp_path / "x.tar"))).classes == ("0", "1")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"1.png": png(1), "1.json": b"{}", "2.cls": b"1"}, r"sample 1.*the files \.json, \.png"),
        ({"1.png": png(1), "1.jpg": png(2), "1.cls": b"0"}, "one picture"),
        ({"1.png": png(1), "1.cls": b"7"}, "0 to 1: classes.txt beside the shards has 2 names"),
        ({"1.png": png(1), "1.cls": b"9" * 150}, "classes.txt beside the shards has 2 names"),
        ({"../1.png": png(1), "../1.cls": b"0"}, "a path that leads outside"),
        ({"readme.txt": b"nothing", "other.cls.txt": b""}, "no sample"),
    ],
)
def test_other_shards_are_refused(tmp_path: Path, files: dict[str, bytes], expected: str) -> None:
    (tmp_path / "s").mkdir()
    tar(tmp_path / "s" / "train-0.tar", files)
    (tmp_path / "s" / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=f"(?s){expected}"):
        load_dataset(DataConfig(source=str(tmp_path / "s" / "train-{0..0}.tar")))


def test_a_shard_that_is_cut_off_or_changes_is_told(shards: Path, tmp_path: Path) -> None:
    content = (shards / "data-000000.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(content[:1500])
    with pytest.raises(DataError, match="damaged"):
        load_dataset(DataConfig(source=str(tmp_path / "cut.tar")))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data-{000000..000099}.tar", "shards are missing, the first"),
        ("data-{5..1}.tar", "0 shards"),
        ("data-{0..999}-{0..999}.tar", "1,000,000 shards"),
        ("nothing-{000..001}.tar", "2 of 2 shards are missing"),
    ],
)
def test_patterns_name_what_is_there(shards: Path, pattern: str, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        load_dataset(DataConfig(source=str(shards / pattern)))


def half_written(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, shards: int = 2, end: BaseException | None = None
) -> None:
    """Shards of which the last are missing, as after a kill, or another end."""
    write_one, left = write_shards_module._write_one, [shards]

    def until_killed(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise end or KeyboardInterrupt
        return write_one(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(write_shards_module, "_write_one", until_killed)
        with pytest.raises((KeyboardInterrupt, DataError)):
            write_shards(DataConfig(source=str(source)), out, 0.02)


def test_a_full_disk_keeps_the_shards_that_are_whole_and_leaves_nothing_where_there_are_none(
    same_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, unreadable = OSError(errno.ENOSPC, "No space left on device"), DataError("data", "damaged", "a file", "none")
    half_written(same_photos, tmp_path / "none", monkeypatch, 0, full)
    assert not (tmp_path / "none").exists()
    for end, left in ((full, 1), (full, 2), (unreadable, 0)):
        half_written(same_photos, tmp_path / "s", monkeypatch, 1, end)
        assert len(list(tmp_path.glob("s/*.tar"))) == left
    assert not (tmp_path / "s").exists()


def test_half_written_shards_are_refused_however_they_are_named_and_packing_goes_on(
    same_photos: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "s"
    half_written(same_photos, out, monkeypatch)
    for source in (out, out / "data-000000.tar", out / "data-{000000..000001}.tar"):
        with pytest.raises(DataError, match="interrupted") as caught:
            load_dataset(DataConfig(source=str(source)))
        assert caught.value.remedy.endswith(f"striate data pack {same_photos} --shards {out} --shard-size 0.02")
    with pytest.raises(DataError, match="other data"):
        write_shards(DataConfig(source=str(same_photos)), out, 0.03)
    first = (out / "data-000000.tar").stat().st_mtime_ns
    (out / "data-000001.tar").write_bytes(b"damaged")
    said: list[str] = []
    write_shards(DataConfig(source=str(same_photos)), out, 0.02, announce=said.append)
    assert said[0] == "Continuing after 1 shard."
    assert (out / "data-000000.tar").stat().st_mtime_ns == first
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in shards.iterdir()
    }


def copied(shards: Path, out: Path) -> Path:
    out.mkdir()
    for path in shards.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda s: (s / "data-000001.tar").unlink(), "data-000001.tar is missing"),
        (lambda s: (s / "data-000001.tar").rename(s / "x.tar"), "is missing, and 1 more"),
        (lambda s: (s / "new.tar").write_bytes((s / "data-000001.tar").read_bytes()), "new.tar is not in shards.json"),
        (lambda s: (s / "classes.txt").unlink(), "classes.txt has changed since the index was written"),
        (lambda s: (s / "shards.json").unlink(), "no shards.json"),
        (lambda s: (s / "shards.json").write_text("{}"), "does not fit or is damaged"),
        (lambda s: tar(s / "data-000001.tar", {"00000000.png": b"x", "00000000.cls": b"0"}), "as shards.json says"),
    ],
)
def test_a_folder_that_is_not_what_was_written_is_refused(shards: Path, tmp_path: Path, harm, words: str) -> None:
    out = copied(shards, tmp_path / "s")
    harm(out)
    with pytest.raises(DataError, match=words):
        load_dataset(DataConfig(source=str(out)))


def test_a_byte_that_changed_in_a_shard_makes_its_sample_unreadable(shards: Path, tmp_path: Path) -> None:
    out = copied(shards, tmp_path / "s")
    with tarfile.open(out / "data-000000.tar") as archive:
        label = next(one for one in archive if one.name.endswith(".cls"))
    data = bytearray((out / "data-000000.tar").read_bytes())
    data[label.offset_data] = ord("1") if data[label.offset_data] != ord("1") else ord("2")
    (out / "data-000000.tar").write_bytes(data)
    data = load_dataset(DataConfig(source=str(out)))
    assert [row.split for row in data.rows].count("unreadable") == 1


def test_shards_without_an_index_get_one_where_they_are_whole(
    same_photos: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(shards, tmp_path / "s")
    (out / "shards.json").unlink()
    with pytest.raises(DataError, match=r"no shards\.json") as caught:
        load_dataset(DataConfig(source=str(out / "data-000000.tar")))
    assert f"striate data index {out};" in caught.value.remedy
    assert main(["data", "index", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 36
    assert (out / "shards.json").read_bytes() == (shards / "shards.json").read_bytes()
    for lost in ("data-000001.tar", "classes.txt"):  # an earlier striate wrote no index, and classes.txt last
        part = copied(shards, tmp_path / lost)
        (part / "shards.json").unlink()
        (part / lost).unlink()
        assert main(["data", "index", str(part)]) == 2
        assert "interrupted" in capsys.readouterr().err
    half_written(same_photos, tmp_path / "half", monkeypatch)
    assert main(["data", "index", str(tmp_path / "half")]) == 2
    assert "finish it" in capsys.readouterr().err


def test_shards_of_other_programs_are_read_by_name_and_as_a_folder_with_an_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s").mkdir()
    for n in range(2):
        files = {f"a{k}.{e}": c for k in range(10) for e, c in (("png", png(10 * n + k)), ("cls", b"%d" % (k % 2)))}
        tar(tmp_path / "s" / f"part{n}.tar", files)
    assert len(load_dataset(DataConfig(source=str(tmp_path / "s" / "part{0..1}.tar"))).rows) == 20
    with pytest.raises(DataError, match=r"no shards\.json"):
        load_dataset(DataConfig(source=str(tmp_path / "s")))
    with pytest.raises(DataError, match=f"striate data index {tmp_path / 's'}"):
        index_data(tmp_path / "s" / "part0.tar")
    with pytest.raises(DataError, match="nothing there"):
        index_data(tmp_path / "other")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(write_shards_module, "write_index", refuse)
        with pytest.raises(DataError, match=r"(?s)Read-only.*copy the shards"):
            index_data(tmp_path / "s")
    index_data(tmp_path / "s")
    assert len(load_dataset(DataConfig(source=str(tmp_path / "s"))).rows) == 20


def test_a_folder_of_strangers_makes_packing_neither_write_through_a_link_nor_wait(
    same_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    half_written(same_photos, tmp_path / "s", monkeypatch)
    for name in (".data-000002.tar.part", ".classes.txt.part", ".shards.json.part", "classes.txt", "data-000002.tar"):
        (tmp_path / "s" / name).symlink_to(victim)
    write_shards(DataConfig(source=str(same_photos)), tmp_path / "s", 0.02)
    journal = tmp_path / "s" / ".shards.jsonl"
    for place in (lambda: journal.symlink_to(victim), lambda: os.mkfifo(journal)):
        place()
        with pytest.raises(DataError, match=r"shards\.jsonl"):
            write_shards(DataConfig(source=str(same_photos)), tmp_path / "s", 0.02)
        journal.unlink()
    assert victim.read_bytes() == b"mine"


def test_the_command_line(
    same_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["data", "pack", str(same_photos), "--shards", str(tmp_path / "s"), "--shard-size", "0.05"]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["samples"], said["data"]) == (36, "photos")
    assert said["shards"] == len(list((tmp_path / "s").glob("*.tar")))
    monkeypatch.chdir(tmp_path)
    assert main([*words[:4], "./-one"]) == 0
    assert capsys.readouterr().out.endswith("striate train ./-one\n")
    assert load_dataset(DataConfig(source="./-one")).name == "-one"  # of the folder, not of its only shard
    assert not list((tmp_path / "s").glob(".*"))
    assert main(words) == 2
    assert "a new or empty folder" in capsys.readouterr().err
    for more in (["--size", "8"], ["--out", "x"]):
        assert main([*words[:3], "--shards", str(tmp_path / "t"), *more]) == 2
    assert main([*words[:3], "--shards", str(tmp_path / "t"), "--shard-size", "0"]) == 2
    assert main([*words[:3], "--shard-size", "5"]) == 2
    assert main(["data", "pack", "iris", "--shards", str(tmp_path / "t")]) == 2
    assert "pictures with one class each" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_what_cannot_be_read_leaves_nothing(photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = photos(each=2)
    (folder / "red" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DataError, match=r"gone\.png"):
        write_shards(DataConfig(source=str(folder)), tmp_path / "s", 0.001)
    assert not (tmp_path / "s").exists()
