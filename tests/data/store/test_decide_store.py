"""Memory if the inputs fit, else a pack if the disk has room, else a stream; and what is said about it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from striate.data.config import DataConfig
from striate.data.materialize import Room, decide_store, measure_room
from striate.data.pack_data import pack_data
from striate.data.progress import announce_tenths
from striate.data.read import load_dataset
from striate.errors import DataError

SHAPE = (1000, 3, 10, 10)
SIZE = 300_000


def decide(asked: str, room: Room, packed: bool = False, packable: bool = True) -> tuple[str, str | None]:
    return decide_store(asked, "data here", SHAPE, room, packable=packable, packed=packed)


def test_auto_takes_the_first_that_there_is_room_for() -> None:
    assert decide("auto", Room(4 * SIZE, 10 * SIZE, 0)) == ("memory", None)
    store, why = decide("auto", Room(4 * SIZE - 4, 10 * SIZE, 2 * SIZE))
    assert store == "pack"
    assert "more than 50 %" in str(why)
    store, why = decide("auto", Room(SIZE, 10 * SIZE, SIZE))
    assert store == "stream"
    assert "decoded again in each epoch" in str(why)
    assert decide("auto", Room(SIZE, SIZE, 0), packed=True)[0] == "pack"


@given(asked=st.sampled_from(["pack", "stream"]), available=st.integers(0, 10 * SIZE), disk=st.integers(0, 10 * SIZE))
def test_what_was_asked_for_is_done(asked: str, available: int, disk: int) -> None:
    assert decide(asked, Room(available, available, disk)) == (asked, None)


def test_memory_is_refused_only_where_the_machine_has_too_little() -> None:
    assert decide("memory", Room(0, 2 * SIZE, 0)) == ("memory", None)
    with pytest.raises(DataError, match=r"--data\.store auto, or --size 9x9"):
        decide("memory", Room(2 * SIZE, 2 * SIZE - 1, 0))
    with pytest.raises(DataError, match="remedy:   --size 9x9"):
        decide("auto", Room(2 * SIZE, 2 * SIZE - 1, 9 * SIZE), packable=False)


def test_the_room_of_a_folder_that_is_not_there_is_that_of_the_one_above(tmp_path: Path) -> None:
    room = measure_room(tmp_path / "not" / "there")
    assert 0 < room.available <= room.total
    assert room.disk > 0
    assert measure_room(None).disk == 0


def test_auto_packs_what_does_not_fit_and_streams_what_fits_nowhere(same_photos, tmp_path, monkeypatch) -> None:
    for room, store in ((Room(10**4, 10**5, 10**6), "pack"), (Room(10**4, 10**5, 10**3), "stream")):
        monkeypatch.setattr("striate.data.materialize.measure_room", lambda _, room=room: room)
        data = load_dataset(DataConfig(source=str(same_photos), packs=str(tmp_path / store)))
        assert data.store == store
        assert any(f"data.store {store}" in note for note in data.notes)


def test_a_pack_that_is_there_saves_decoding(same_photos, tmp_path, monkeypatch) -> None:
    config = {"source": str(same_photos), "size": (7, 7), "packs": str(tmp_path)}
    decoded = load_dataset(DataConfig(**config))
    assert f"There is no pack of these images in {tmp_path}, so they were decoded." in decoded.notes
    load_dataset(DataConfig(**config, store="pack"))

    def no_decoding(*_: object) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr("striate.data.media.image.image_medium.decode_image", no_decoding)
    again = load_dataset(DataConfig(**config))
    assert (again.store, again.fingerprint) == ("memory", decoded.fingerprint)
    assert any("read from the pack" in note for note in again.notes)
    with pytest.raises(AssertionError, match="decoded again"):
        load_dataset(DataConfig(**config | {"size": (8, 7)}))
    with pytest.raises(AssertionError, match="decoded again"):
        load_dataset(DataConfig(**config, fit="pad"))


@pytest.mark.parametrize("removable", [True, False])
def test_a_pack_that_is_read_into_memory_is_compared_whatever_its_time_says(
    same_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, removable: bool
) -> None:
    config = DataConfig(source=str(same_photos), packs=str(tmp_path))
    decoded = load_dataset(config)
    pack_data(config)
    (file,) = tmp_path.glob("*/inputs")
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    if not removable:
        monkeypatch.setattr("striate.data.materialize.remove_if_damaged", raise_unwritable)
    said: list[str] = []
    again = load_dataset(config, announce=said.append)
    assert again.store == "memory"
    for name, split in decoded.splits.items():
        assert torch.equal(again.splits[name].inputs[:], split.inputs[:])
    assert any("made again" in text for text in said) == removable
    assert (file.read_bytes() == content) == removable


def raise_unwritable(*_: object, **__: object) -> None:
    raise DataError("pack", "read only", "a place that can be written to", "--data.packs FOLDER")


@given(parts=st.lists(st.integers(0, 50), max_size=60))
def test_progress_is_said_in_tenths_and_only_where_it_takes_time(parts: list[int]) -> None:
    said: list[str] = []
    count = announce_tenths("Reading x", max(1, sum(parts)), "images", said.append, moment=0.0)
    silent: list[str] = []
    quiet = announce_tenths("Reading x", max(1, sum(parts)), "images", silent.append, moment=1e9)
    for part in parts:
        count(part)
        quiet(part)
    assert silent == []
    assert len(said) <= 10
    assert len(set(said)) == len(said)
    if sum(parts):
        assert said[-1] == f"Reading x: 100 % of {sum(parts):,} images"
