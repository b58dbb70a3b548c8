"""Packs where others may write: links and what is another's are refused, and a record is not simply believed."""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from striate.data.config import DataConfig
from striate.data.dataset import Preparation
from striate.data.pack_data import pack_data
from striate.data.read import load_dataset
from striate.data.store import owned_files, pack
from striate.data.store.build import build_pack, remove_if_damaged
from striate.data.store.owned_files import open_owned_folder
from striate.data.store.pack import Pack, open_pack, pack_key, write_record
from striate.errors import DataError

KEY = "fedcba9876543210"
SHAPE = (12, 3, 8, 4)
PIXELS = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


def read(row: int, out: np.ndarray) -> str | None:
    out[...] = PIXELS[row]
    return "cut off" if row == 5 else None


def build(folder: Path) -> Pack:
    return build_pack(folder, KEY, read, SHAPE, source="here", progress=lambda _: None, announce=lambda _: None)


def link(at: Path, to: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(to)


@pytest.mark.parametrize("name", ["inputs", "sums", "blocks.jsonl", "pack.json.new"])
@pytest.mark.parametrize("made", ["soft", "hard"])
def test_no_file_is_written_through_a_link(tmp_path: Path, name: str, made: str) -> None:
    victim, place = tmp_path / "victim", tmp_path / "packs" / f"{KEY}.building" / name
    victim.write_text("a thesis")
    place.parent.mkdir(parents=True)
    (place.symlink_to if made == "soft" else place.hardlink_to)(victim)
    with pytest.raises(DataError, match=r"--data\.packs FOLDER") as caught:
        build(tmp_path / "packs")
    assert caught.value.got == {"soft": "a link to another place", "hard": "a file that has another name too"}[made]
    assert victim.read_text() == "a thesis"


@pytest.mark.parametrize("name", [f"{KEY}.building", f"{KEY}.lock", KEY])
def test_no_folder_and_no_lock_is_reached_through_a_link(tmp_path: Path, name: str) -> None:
    victim = tmp_path / "victim"
    if name.endswith("lock"):
        victim.write_text("a thesis")
    else:
        victim.mkdir()
        (victim / "inputs").write_text("a thesis")
    link(tmp_path / "packs" / name, victim)
    with pytest.raises(DataError, match="a link to another place"):
        build(tmp_path / "packs")
    assert (victim if victim.is_file() else victim / "inputs").read_text() == "a thesis"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    made = build(tmp_path)
    (made.path / "inputs").unlink()
    os.mkfifo(made.path / "inputs")
    assert open_pack(made.path, KEY, SHAPE) is None


def test_a_pack_that_lies_elsewhere_is_not_taken(tmp_path: Path) -> None:
    made = build(tmp_path / "theirs")
    link(tmp_path / "mine" / KEY, made.path)
    assert open_pack(tmp_path / "mine" / KEY, KEY, SHAPE) is None
    assert open_pack(made.path, KEY, SHAPE) is not None


def test_another_users_pack_is_not_taken_but_that_of_the_folders_owner_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build(tmp_path / "packs")
    true = os.fstat

    def foreign(descriptor: int) -> os.stat_result:
        values = list(true(descriptor))
        values[4] = 12_345
        return os.stat_result(values)

    monkeypatch.setattr(owned_files.os, "fstat", foreign)
    assert open_pack(made.path, KEY, SHAPE) is None
    with pytest.raises(DataError, match="another user's"):
        build(tmp_path / "packs")
    monkeypatch.setattr(owned_files, "_refuse_other_owner", lambda *at: seen.append(at[-1]))
    seen: list[Path] = []
    open_pack(made.path, KEY, SHAPE)
    assert set(seen) == {tmp_path / "packs"}


def test_only_the_owner_can_read_a_pack(tmp_path: Path) -> None:
    made = build(tmp_path)
    assert made.path.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in made.path.iterdir()} == {0o600}


def test_a_record_of_another_shape_is_not_believed(tmp_path: Path) -> None:
    made = build(tmp_path)
    assert open_pack(made.path, KEY, (12, 3, 4, 8)) is None
    with open_owned_folder(made.path) as folder:
        write_record(folder, replace(made.record, shape=(12, 3, 4, 8)))
    assert open_pack(made.path, KEY, SHAPE) is None


@pytest.mark.parametrize(
    "wrong", [{"unreadable": []}, {"unreadable": {}}, {"unreadable": {"7": "x"}}, {"source": "x"}, {"digests": ["a"]}]
)
def test_a_changed_record_is_not_believed(tmp_path: Path, wrong: dict) -> None:
    made = build(tmp_path)
    file = made.path / "pack.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | wrong))
    assert open_pack(made.path, KEY, SHAPE) is None


@pytest.mark.parametrize("text", ["", "[]", "null", "[" * 100_000, '{"digest": 1}', "\xff"])
def test_whatever_a_record_holds_it_is_no_fault_of_the_program(tmp_path: Path, text: str) -> None:
    made = build(tmp_path)
    (made.path / "pack.json").write_text(text, encoding="latin-1")
    assert open_pack(made.path, KEY, SHAPE) is None


def test_what_is_unreadable_is_part_of_what_is_compared(tmp_path: Path) -> None:
    made = build(tmp_path)
    with open_owned_folder(made.path) as folder:
        write_record(folder, replace(made.record, unreadable={}))
    assert open_pack(made.path, KEY, SHAPE, check=True) is None


def test_a_copied_pack_is_compared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = build(tmp_path / "packs")
    shutil.copytree(made.path, tmp_path / "copies" / KEY, copy_function=shutil.copyfile)
    os.utime(tmp_path / "copies" / KEY / "inputs", ns=(1, 1))
    compared: list[Path] = []
    whole = pack._is_intact
    monkeypatch.setattr(pack, "_is_intact", lambda one: compared.append(one.path) or whole(one))
    for _ in range(3):
        opened = open_pack(tmp_path / "copies" / KEY, KEY, SHAPE)
        assert opened is not None
        assert opened.record.unreadable == {5: "cut off"}
    assert compared == [tmp_path / "copies" / KEY]
    assert sorted(file.name for file in (tmp_path / "copies" / KEY).iterdir()) == ["inputs", "pack.json", "sums"]


def test_a_stream_leaves_packs_alone(same_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("striate.data.materialize.open_pack", lambda path, *_, **__: opened.append(path))
    load_dataset(DataConfig(source=str(same_photos), store="stream", packs=str(tmp_path)))
    assert opened == []
    load_dataset(DataConfig(source=str(same_photos), packs=str(tmp_path)))
    assert len(opened) == 1


def test_a_pack_that_another_process_has_just_made_anew_stays(tmp_path: Path) -> None:
    made = build(tmp_path)
    said: list[str] = []
    remove_if_damaged(made.path, KEY, SHAPE, announce=said.append)
    assert said == []
    assert open_pack(made.path, KEY, SHAPE, check=True) is not None
    (made.path / "sums").write_bytes(bytes(16 * 12 * 3))
    remove_if_damaged(made.path, KEY, SHAPE, announce=said.append)
    assert "made again" in said[0]
    assert [file.name for file in tmp_path.iterdir()] == []


def test_two_that_find_the_same_damage_remove_it_once(
    same_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DataConfig(source=str(same_photos), packs=str(tmp_path))
    made = pack_data(config)
    (made.path / "sums").write_bytes(bytes((made.path / "sums").stat().st_size))
    seen, said = threading.Barrier(2, timeout=30), ([], [])
    found = remove_if_damaged

    def at_once(*words: object, **more: object) -> None:
        seen.wait()
        found(*words, **more)

    monkeypatch.setattr("striate.data.pack_data.remove_if_damaged", at_once)
    threads = [threading.Thread(target=pack_data, args=(config,), kwargs={"announce": to.append}) for to in said]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum("made again" in text for to in said for text in to) == 1
    assert pack_data(config) == made


def test_another_decoder_makes_another_pack(monkeypatch: pytest.MonkeyPatch) -> None:
    how = Preparation(kind="image", input_shape=SHAPE[1:])
    keys = set()
    for installed in ("1.9.0", "1.9.1", None):
        monkeypatch.setattr("striate.data.store.pack.version", lambda _, one=installed: one or missing())
        keys.add(pack_key([b"content"], (), how))
    assert len(keys) == 3


def missing() -> str:
    raise PackageNotFoundError
