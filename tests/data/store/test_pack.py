"""A pack is whole or it is not there: killed, damaged, foreign and shared packs."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from striate.data.store.build import build_pack
from striate.data.store.pack import Pack, open_pack
from striate.data.store.stored import rows_in_block
from striate.errors import DataError

KEY = "0123456789abcdef"
SHAPE = (21, 3, 300, 400)
"""Blocks of five images and a last one of one."""


def picture(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, SHAPE[1:], dtype=np.uint8)


class Reader:
    """Decodes a made-up image, and remembers which rows it was asked for; row 7 cannot be read."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.rows: list[int] = []
        self.fail_at = fail_at

    def __call__(self, row: int, out: np.ndarray) -> str | None:
        if row == self.fail_at:
            raise KeyboardInterrupt
        self.rows.append(row)
        out[...] = 9 if row == 7 else picture(row)
        return "cut off" if row == 7 else None


def build(folder: Path, read: Reader, said: list[str] | None = None, done: list[int] | None = None) -> Pack:
    says, counts = [] if said is None else said, [] if done is None else done
    return build_pack(folder, KEY, read, SHAPE, source="here", progress=counts.append, announce=says.append)


def check(pack: Pack) -> None:
    rows = np.array([3, 20, 0, 7, 3])
    out = np.empty((5, *SHAPE[1:]), np.uint8)
    pack.read(rows, out)
    assert np.array_equal(out[[0, 1, 2, 4]], np.stack([picture(3), picture(20), picture(0), picture(3)]))
    assert not out[3].any()
    assert pack.record.unreadable == {7: "cut off"}
    wide = picture(20).astype(np.int64)
    assert np.array_equal(pack.sums(np.array([20]))[0], np.stack([wide.sum((1, 2)), (wide**2).sum((1, 2))], axis=1))


def test_a_pack_holds_what_was_decoded_and_is_found_again(tmp_path: Path) -> None:
    reader, done = Reader(), []
    pack = build(tmp_path, reader, done=done)
    check(pack)
    assert (sorted(reader.rows), sum(done), rows_in_block(SHAPE[1:])) == (list(range(21)), 21, 5)
    assert sorted(file.name for file in tmp_path.iterdir()) == [KEY]
    assert sorted(file.name for file in (tmp_path / KEY).iterdir()) == ["inputs", "pack.json", "sums"]
    again = Reader()
    check(build(tmp_path, again))
    assert again.rows == []


@given(stop=st.integers(0, 20), cut=st.integers(0, 200), wrong=st.integers(0, 4))
@settings(max_examples=12)
def test_an_interrupted_pack_goes_on_from_its_last_whole_block(
    tmp_path_factory: pytest.TempPathFactory, stop: int, cut: int, wrong: int
) -> None:
    folder = tmp_path_factory.mktemp("packs")
    with pytest.raises(KeyboardInterrupt):
        build(folder, Reader(fail_at=stop))
    work = folder / f"{KEY}.building"
    journal = work / "blocks.jsonl"
    lines = journal.read_bytes()
    journal.write_bytes(lines[: len(lines) - cut] if cut else lines)  # as if the end had never reached the disk
    whole = journal.read_bytes().count(b"\n")
    if wrong < whole:
        with (work / "inputs").open("r+b") as file:
            file.seek((wrong * 5 + 2) * int(np.prod(SHAPE[1:])))
            file.write(b"xyz")
        whole = wrong
    reader = Reader()
    check(build(folder, reader))
    assert sorted(reader.rows) == list(range(5 * whole, 21))


@pytest.mark.each_nth(3)
@pytest.mark.parametrize("name", ["inputs", "sums", "pack.json"])
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_damaged_pack_is_made_anew(tmp_path: Path, name: str, harm: str) -> None:
    build(tmp_path, Reader())
    file = tmp_path / KEY / name
    data = file.read_bytes()
    time.sleep(0.02)  # the file system's clock ticks
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if harm == "cut" else bytes([data[0] ^ 1]) + data[1:])
    if (name, harm) == ("sums", "changed"):  # seen where the images were touched too, or a check was asked for
        assert open_pack(tmp_path / KEY, KEY, SHAPE, check=True) is None
        return
    assert open_pack(tmp_path / KEY, KEY, SHAPE) is None
    said: list[str] = []
    check(build(tmp_path, Reader(), said))
    assert any("made again" in text for text in said)


def test_a_pack_of_something_else_is_not_taken(tmp_path: Path) -> None:
    build(tmp_path, Reader())
    assert open_pack(tmp_path / KEY, "another", SHAPE) is None
    record = json.loads((tmp_path / KEY / "pack.json").read_text())
    for wrong in ({"format": 99}, {"shape": [1, 2]}, {"key": "x"}, {"more": 1}):
        (tmp_path / KEY / "pack.json").write_text(json.dumps(record | wrong))
        assert open_pack(tmp_path / KEY, KEY, SHAPE) is None
    (tmp_path / KEY / "pack.json").write_text("[]")
    assert open_pack(tmp_path / KEY, KEY, SHAPE) is None


def test_nothing_else_is_removed_to_make_room_for_a_pack(tmp_path: Path) -> None:
    (tmp_path / KEY).mkdir()
    (tmp_path / KEY / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"another place for packs: --data\.packs FOLDER"):
        build(tmp_path, Reader())
    assert (tmp_path / KEY / "thesis.tex").read_text() == "mine"


def test_a_place_that_cannot_be_written_to_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"--data\.packs FOLDER"):
        build(tmp_path / "file" / "packs", Reader())


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    said: list[str] = []
    first, second = Reader(), Reader()
    inside = threading.Event()

    def slow(row: int, out: np.ndarray) -> str | None:
        inside.set()
        time.sleep(0.01)
        return first(row, out)

    thread = threading.Thread(target=lambda: build(tmp_path, slow))  # type: ignore[arg-type]
    thread.start()
    inside.wait()
    check(build(tmp_path, second, said))  # another open file, so the lock is another's
    thread.join()
    assert second.rows == []
    assert any("waiting" in text for text in said)


_BUILD = """
import sys
from pathlib import Path
import time
sys.path.insert(0, sys.argv[1])
import test_pack
class Slow(test_pack.Reader):
    def __call__(self, row, out):
        if row == int(sys.argv[3]):
            print("here", flush=True)
            time.sleep(600)
        time.sleep(0.01)
        return super().__call__(row, out)
print("begun", flush=True)
test_pack.build(Path(sys.argv[2]), Slow())
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_pack_that_is_killed_again_and_again_becomes_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for stop in (3, 9, 16, -1, -1, -1):  # first where it stands still, then at any moment
        command = [sys.executable, "-c", _BUILD, str(Path(__file__).parent), str(tmp_path / "packs"), str(stop)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if stop >= 0:
            assert process.stdout.readline() == "here\n"
        else:
            time.sleep(float(rng.uniform(0.0, 0.12)))
        process.kill()
        process.communicate()
        if stop >= 0:
            assert process.returncode == -signal.SIGKILL
    check(build(tmp_path / "packs", Reader()))
