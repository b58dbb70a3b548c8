"""A pack: decoded images in one file, mapped into memory, read by row.

A pack is a folder named by its key, with three files: `inputs` (the bytes of all images, N × C × H × W), `sums` (int64,
N × C × 2: `channel_sums`) and `pack.json`, which says what the others hold, with a digest of each block of images.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.data.store.blocks import rows_in_block
from striate.errors import DataError

FORMAT = 1
FILES = ("inputs", "sums", "pack.json")


@dataclass(frozen=True)
class PackRecord:
    """What pack.json says. `shape` is (N, C, H, W); `digests` has one a block, over its images and sums; `unreadable`
    holds reasons by row; `modified` is when `inputs` was finished, in nanoseconds as the file system has it."""

    format: int
    key: str
    source: str
    shape: tuple[int, ...]
    digests: tuple[str, ...]
    unreadable: dict[int, str]
    modified: int


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack, as a `Source`."""

    path: Path
    record: PackRecord
    mapped: mmap.mmap = field(repr=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.record.shape

    @property
    def piece(self) -> None:
        """One thread reads: the disk is what takes time."""
        return

    @property
    def bytes(self) -> int:
        """Size of the images on the disk."""
        return int(np.prod(self.shape))

    def read(self, rows: NDArray[np.int64], out: NDArray[np.uint8]) -> None:
        """Copy the images `rows` into `out`, in the order of the file whatever theirs is."""
        images = np.frombuffer(self.mapped, np.uint8).reshape(self.shape)
        order = np.argsort(rows, kind="stable")
        self._announce(rows[order])
        for start in range(0, len(order), rows_in_block(self.shape[1:])):
            part = order[start : start + rows_in_block(self.shape[1:])]
            out[part] = images[rows[part]]
            if hasattr(mmap, "MADV_DONTNEED"):  # what was read does not count as this process's memory any longer
                self.mapped.madvise(mmap.MADV_DONTNEED)

    def _announce(self, rows: NDArray[np.int64]) -> None:
        """Tell the system which parts of the file come next, so that it reads them together."""
        size = int(np.prod(self.shape[1:]))
        if size < mmap.PAGESIZE or not hasattr(mmap, "MADV_WILLNEED"):
            return
        for row in rows.tolist():
            start = row * size // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, start, (row + 1) * size - start)

    def sums(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sums and sums of squares by channel of the images `rows`."""
        chosen: NDArray[np.int64] = read_sums(self.path, self.shape)[rows]
        return chosen


def read_sums(path: Path, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """(N, C, 2) int64: the sums of a pack of `shape`."""
    return np.fromfile(path / "sums", "<i8").reshape(*shape[:2], 2)


def block_digest(images: NDArray[np.uint8], sums: NDArray[np.int64]) -> str:
    """What a block must still be when it is read."""
    digest = hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=16)
    digest.update(np.ascontiguousarray(sums, "<i8").data)
    return digest.hexdigest()


def open_pack(path: Path, key: str, *, check: bool = False) -> Pack | None:
    """The pack at `path`; None where there is none of this key, or it is damaged.

    Its blocks are compared with their digests where the file was touched since it was made, or `check` asks for it.
    """
    try:
        record = _read_record(path / "pack.json")
        size = int(np.prod(record.shape))
        status = (path / "inputs").stat()
        right_sums = (path / "sums").stat().st_size == 16 * int(np.prod(record.shape[:2]))
        if (record.format, record.key, status.st_size) != (FORMAT, key, size) or not right_sums:
            return None
        with (path / "inputs").open("rb") as file:
            pack = Pack(path, record, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    if (check or status.st_mtime_ns != record.modified) and not _is_whole(pack):
        return None
    return pack


def _read_record(path: Path) -> PackRecord:
    values = json.loads(path.read_text(encoding="utf-8"))
    values["shape"], values["digests"] = tuple(map(int, values["shape"])), tuple(values["digests"])
    values["unreadable"] = {int(row): str(why) for row, why in values["unreadable"].items()}
    return PackRecord(**values)


def write_record(path: Path, record: PackRecord) -> None:
    """Write pack.json."""
    path.write_text(json.dumps(asdict(record)), encoding="utf-8")


def _is_whole(pack: Pack) -> bool:
    images = np.frombuffer(pack.mapped, np.uint8).reshape(pack.shape)
    sums, size = read_sums(pack.path, pack.shape), rows_in_block(pack.shape[1:])
    for number, digest in enumerate(pack.record.digests):
        rows = slice(number * size, (number + 1) * size)
        if block_digest(images[rows], sums[rows]) != digest:
            return False
        if hasattr(mmap, "MADV_DONTNEED"):
            pack.mapped.madvise(mmap.MADV_DONTNEED)
    return len(pack.record.digests) == -(-pack.shape[0] // size)


def remove_pack(path: Path) -> None:
    """Remove what a pack consists of, and nothing else. Raises DataError where other things lie there."""
    for name in FILES:
        (path / name).unlink(missing_ok=True)
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(
            f"pack {path}",
            error.strerror or str(error),
            "a pack, or nothing, in this place",
            f"move it elsewhere: mv '{path}' '{path}.old'",
        ) from None
