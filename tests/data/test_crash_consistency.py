"""Shards and packs after a power cut: what was flushed is there, of the rest any part, in any order.

While a set is written, each flush, rename and removal is noted. A cut before each of them is then played: renames and
files that no flush of their folder had made durable are there or not, each for itself; of what no flush of the file had
made durable there is all, nothing, a beginning, zeros, or some of its pages. After every cut the reader gives the whole
set or refuses, and writing again ends with the same bytes.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from striate.data.config import DataConfig
from striate.data.sources.list_source import list_source
from striate.data.store import build as build_module
from striate.data.store import stored as stored_module
from striate.data.store.build import build_pack
from striate.data.store.pack import open_pack
from striate.data.write_shards import write_shards
from striate.errors import DataError

PAGE = 4096
Content = tuple[bytes, int]
"""Bytes, and when they were changed: a time may be on the disk before the bytes are."""


@dataclass
class Disk:
    """What is on the disk: `names` of files that are surely there, `flushed` contents by file, `steps` that were made
    since in folders (`link path file`, `unlink path`, `move path path`), and `now`, what the system has in memory."""

    names: dict[str, int] = field(default_factory=dict)
    flushed: dict[int, Content] = field(default_factory=dict)
    steps: list[tuple[str, str, Any]] = field(default_factory=list)
    now: dict[int, Content] = field(default_factory=dict)

    def copy(self) -> Disk:
        return Disk(dict(self.names), dict(self.flushed), list(self.steps), dict(self.now))

    def cut(self, dice: random.Random | None, folder: Path) -> None:
        """Leave in the folder what a power cut does; without dice, what the end of the process alone does."""
        names = dict(self.names)
        for step in self.steps:
            if dice is None or dice.random() < 0.5:
                apply(step, names)
        for path, number in names.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            content, changed = self.now[number] if dice is None else self._left(number, dice)
            target.write_bytes(content)
            os.utime(target, ns=(changed, changed))

    def _left(self, number: int, dice: random.Random) -> Content:
        flushed, (now, changed) = self.flushed.get(number, (b"", 0)), self.now[number]
        if flushed[0] == now:
            return now, changed
        mixed = bytearray(flushed[0][: len(now)].ljust(len(now), b"\0"))
        for start in range(0, len(now), PAGE):
            if dice.random() < 0.5:
                mixed[start : start + PAGE] = now[start : start + PAGE]
        kept = next((i for i, (was, byte) in enumerate(zip(flushed[0], now, strict=False)) if was != byte), len(now))
        kept = min(kept, len(flushed[0]))
        beginning, zeros = now[: dice.randint(kept, len(now))], now[:kept].ljust(len(now), b"\0")
        left = dice.choice([flushed[0], now, beginning, zeros, bytes(mixed)])
        return left, dice.choice([flushed[1], changed])


def apply(step: tuple[str, str, Any], names: dict[str, int]) -> None:
    kind, path, other = step
    if kind == "link":
        names[path] = other
    elif kind == "unlink":
        names.pop(path, None)
    else:
        for name in [name for name in names if name == path or name.startswith(f"{path}/")]:
            names[other + name[len(path) :]] = names.pop(name)


class Recorder:
    """Notes what happens in a folder; `cuts` has the disk as it is before each flush, rename and removal."""

    def __init__(self, root: Path) -> None:
        self.root, self.disk, self.cuts, self.live, self.count = root, Disk(), list[Disk](), dict[str, int](), 0

    def look(self) -> None:
        """Before something happens: which files are new, and what all hold."""
        for path in sorted(self.root.rglob("*")):
            name = path.relative_to(self.root).as_posix()
            if path.is_dir():
                continue
            if name not in self.live:
                self.count += 1
                self.live[name] = self.count
                self.disk.steps.append(("link", name, self.count))
            self.disk.now[self.live[name]] = (path.read_bytes(), path.stat().st_mtime_ns)
        self.cuts.append(self.disk.copy())

    def step(self, kind: str, path: Path, other: Path | None = None) -> None:
        if not path.is_relative_to(self.root):
            return
        self.look()
        to = None if other is None else other.relative_to(self.root).as_posix()
        step = (kind, path.relative_to(self.root).as_posix(), to)
        self.disk.steps.append(step)
        apply(step, self.live)

    def flush(self, path: Path) -> None:
        if not path.is_relative_to(self.root):
            return
        self.look()
        if path.is_dir():
            inside = path.relative_to(self.root)
            for step in [step for step in self.disk.steps if Path(step[1]).parent == inside]:
                apply(step, self.disk.names)
                self.disk.steps.remove(step)
        else:
            number = self.live[path.relative_to(self.root).as_posix()]
            self.disk.flushed[number] = self.disk.now[number]


@contextmanager
def recorded(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Whatever is flushed, renamed and removed is noted, and done but for the flushing."""
    recorder = Recorder(root)

    def full(path: Any, descriptor: int | None = None) -> Path:
        return (Path() if descriptor is None else Path(f"/proc/self/fd/{descriptor}").readlink()) / path

    def named(name: str) -> Callable[..., None]:
        real = getattr(os, name)

        def instead(source: Any, target: Any, **more: Any) -> None:
            recorder.step("move", full(source, more.get("src_dir_fd")), full(target, more.get("dst_dir_fd")))
            real(source, target, **more)

        return instead

    remove = os.unlink

    def unlink(path: Any, *, dir_fd: int | None = None) -> None:
        if full(path, dir_fd).exists():
            recorder.step("unlink", full(path, dir_fd))
        remove(path, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        for name in ("rename", "replace"):
            patch.setattr(os, name, named(name))
        patch.setattr(os, "unlink", unlink)
        patch.setattr(os, "fsync", lambda descriptor: recorder.flush(full("", descriptor)))
        yield recorder
    recorder.look()


def play(recorder: Recorder, folder: Path, times: int, check: Callable[[Path], None]) -> int:
    """How many cuts were played: each once without a loss, and `times` with one; of 0 times, each fifth with one."""
    cuts = list(enumerate(recorder.cuts))[:: 1 if times else 5]
    for number, disk in cuts:
        for turn in range(times + 1) if times else (1,):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            disk.cut(random.Random(1000 * number + turn) if turn else None, folder)
            check(folder)
    return len(cuts) * (times + 1)


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


TIMES = [0, pytest.param(8, marks=pytest.mark.slow)]


@pytest.mark.parametrize("times", TIMES)
def test_shards_after_a_power_cut_are_the_whole_set_or_none_and_packing_goes_on(
    photos: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    config, out = DataConfig(source=str(photos(each=3))), tmp_path / "s"
    out.mkdir()
    with recorded(out, monkeypatch) as recorder:
        write_shards(config, out, 0.001)
    whole, count = held(out), len(list_source(DataConfig(source=str(out)), None, None))
    shards = sum(name.endswith(".tar") for name in whole)
    assert shards > 4
    read = [0]
    monkeypatch.setattr(os, "fsync", lambda _: None)

    def check(folder: Path) -> None:
        for source in (folder, folder / f"data-{{000000..{shards - 1:06}}}.tar", folder / "data-000000.tar"):
            try:
                listing = list_source(DataConfig(source=str(source)), None, None)
            except DataError:
                continue
            read[0] += 1
            assert "data-000000.tar" in source.name or len(listing) == count
            assert all(listing.read(i) for i in range(len(listing)))  # type: ignore[misc]
        if "shards.json" not in held(folder) or (folder / ".shards.jsonl").exists():
            write_shards(config, folder, 0.001)
        assert held(folder) == whole

    assert play(recorder, tmp_path / "cut", times, check) > 8
    assert read[0] > 0


SHAPE, KEY = (7, 3, 8, 8), "0f"


def picture(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, SHAPE[1:], dtype=np.uint8)


def read_row(row: int, out: np.ndarray) -> str | None:
    out[...] = picture(row)
    return "cut off" if row == 4 else None


@pytest.mark.parametrize("times", TIMES)
def test_packs_after_a_power_cut_are_whole_or_none_and_packing_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    for module in (build_module, stored_module):
        monkeypatch.setattr(module, "rows_in_block", lambda _: 2)
    monkeypatch.setattr("striate.data.store.pack.rows_in_block", lambda _: 2)
    root = tmp_path / "packs"
    root.mkdir()

    def build(folder: Path, progress: Callable[[int], Any]) -> None:
        build_pack(folder, KEY, read_row, SHAPE, source="here", progress=progress, announce=lambda _: None)

    with recorded(root, monkeypatch) as recorder:
        build(root, lambda _: recorder.look())  # also while nothing is flushed
    expected = np.stack([picture(row) for row in range(SHAPE[0])])
    expected[4] = 0
    monkeypatch.setattr(os, "fsync", lambda _: None)
    read = [0]

    def check(folder: Path) -> None:
        for again in (False, True):
            if again:
                build(folder, lambda _: None)
            pack = open_pack(folder / KEY, KEY, SHAPE)
            assert pack is not None or not again
            if pack is not None:
                out = np.empty(SHAPE, np.uint8)
                pack.read(np.arange(SHAPE[0]), out)
                assert np.array_equal(out, expected)
                assert pack.record.unreadable == {4: "cut off"}
                read[0] += not again

    assert play(recorder, tmp_path / "cut", times, check) > 2
    assert read[0] > 0 or not times
