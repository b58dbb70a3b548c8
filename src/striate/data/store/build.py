"""Making packs: an interrupted pack is continued, and a pack gets its name when it is complete."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from striate.data.store.owned_files import OwnedFolder, open_owned_file, open_owned_folder
from striate.data.store.pack import (
    FORMAT,
    JOURNAL,
    Pack,
    PackRecord,
    block_digest,
    open_pack,
    remove_pack,
    write_record,
)
from striate.data.store.stored import DecodedBlock, ReadRow, decode_blocks, rows_in_block, sums_type
from striate.errors import DataError


def build_pack(
    folder: Path,
    key: str,
    read: ReadRow,
    shape: tuple[int, ...],
    *,
    dtype: str = "uint8",
    source: str,
    progress: Callable[[int], None],
    announce: Callable[[str], None],
) -> Pack:
    """The pack `folder`/`key` of the `shape` (N, C, H, W), made with `read` unless it exists.

    An incomplete pack is the folder `key`.building, with a line for each finished block in blocks.jsonl. A later call
    continues after the last block that agrees with its line. A second process waits for the first. `progress` is called
    with the number of rows that were finished since its last call. Raises DataError where it cannot be written, or
    where links or files of another user are in its place.
    """
    path, work = folder / key, folder / f"{key}.building"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(path, announce):
            if pack := open_pack(path, key, shape):
                progress(shape[0])
                return pack
            _remove_damaged(path, announce)
            with open_owned_folder(work, make=True) as inside:
                write_record(inside, _fill(inside, key, read, shape, np.dtype(dtype), source, progress))
                inside.remove(JOURNAL)
            work.rename(path)
    except OSError as error:
        raise _unwritable(path, shape, error) from None
    pack = open_pack(path, key, shape)
    if pack is None:
        raise DataError(
            f"pack {path}", "another content than was just written", "a disk that stores it correctly", "check the disk"
        )
    return pack


def remove_if_damaged(path: Path, key: str, shape: tuple[int, ...], *, announce: Callable[[str], None]) -> None:
    """Check the digests of a pack, and remove it if it is damaged. This holds the lock of the pack, so that it does not
    remove what another process has just made again. Raises DataError."""
    try:
        with _alone(path, announce):
            if open_pack(path, key, shape, check=True) is None:
                _remove_damaged(path, announce)
    except OSError as error:
        raise _unwritable(path, shape, error) from None


def _remove_damaged(path: Path, announce: Callable[[str], None]) -> None:
    if os.path.lexists(path):  # also a link that leads nowhere
        remove_pack(path)
        announce(f"The pack {path} is damaged and is made again.")


def _fill(
    work: OwnedFolder,
    key: str,
    read: ReadRow,
    shape: tuple[int, ...],
    dtype: np.dtype,
    source: str,
    progress: Callable[[int], None],
) -> PackRecord:
    """Write the missing blocks; returns the record of the pack."""
    size = rows_in_block(shape[1:])
    with work.write("inputs") as images, work.write("sums") as sums, work.write(JOURNAL) as journal:
        done = _finished(images, sums, journal, shape, dtype)
        progress(min(shape[0], len(done) * size))
        for block in decode_blocks(read, shape[0], shape[1:], first=len(done), dtype=dtype):
            _write(images, sums, block)
            digest = block_digest(block.images, block.sums, block.unreadable)
            done.append({"digest": digest, "unreadable": block.unreadable})
            journal.write((json.dumps(done[-1]) + "\n").encode())
            journal.flush()  # after its block; if the block is lost nevertheless, its digest fails
            progress(len(block.images))
        images.truncate(int(np.prod(shape)) * dtype.itemsize)
        sums.truncate(16 * shape[0] * shape[1])
        for file in (images, sums):
            os.fsync(file.fileno())
        modified = os.fstat(images.fileno()).st_mtime_ns
    unreadable = {row: why for line in done for row, why in line["unreadable"].items()}
    return PackRecord(
        FORMAT, key, source, shape, tuple(line["digest"] for line in done), unreadable, modified, str(dtype)
    )


def _write(images: IO[bytes], sums: IO[bytes], block: DecodedBlock) -> None:
    for file, values in ((images, block.images), (sums, block.sums)):
        file.seek(block.start * values[0].nbytes)
        file.write(np.ascontiguousarray(values).data)
        file.flush()


def _finished(
    images: IO[bytes], sums: IO[bytes], journal: IO[bytes], shape: tuple[int, ...], dtype: np.dtype
) -> list[dict]:
    """The lines of the complete blocks; truncates the journal after them."""
    size, row = rows_in_block(shape[1:]), int(np.prod(shape[1:])) * dtype.itemsize
    done: list[dict] = []
    end = 0
    for number, text in enumerate(journal.read().split(b"\n")[:-1]):
        count = min(size, shape[0] - number * size)
        images.seek(number * size * row)
        sums.seek(16 * number * size * shape[1])
        block, totals = images.read(count * row), sums.read(16 * count * shape[1])
        try:
            line = json.loads(text)
            pixels = np.frombuffer(block, dtype).reshape(count, *shape[1:])
            line["unreadable"] = {int(row): why for row, why in line["unreadable"].items()}
            whole = block_digest(pixels, np.frombuffer(totals, sums_type(dtype)), line["unreadable"]) == line["digest"]
        except (ValueError, TypeError, KeyError, AttributeError):
            break
        if count <= 0 or not whole:
            break
        done.append(line)
        end += len(text) + 1
    journal.seek(end)
    journal.truncate()
    return done


@contextmanager
def _alone(pack: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """A lock with which only one process makes a pack; the system releases it when the process ends."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes would do the same work, and the second rename fails
        yield
        return
    path = pack.with_name(f"{pack.name}.lock")
    while True:
        with open_owned_file(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                announce(f"Another process is making the pack {pack}; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(path, file):  # removed by its holder; another process may hold a new one
                continue
            yield
            path.unlink(missing_ok=True)  # only now that the work is done
            return


def _is_at(path: Path, file: IO[bytes]) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _unwritable(path: Path, shape: tuple[int, ...], error: OSError) -> DataError:
    return DataError(
        f"pack {path}",
        error.strerror or str(error),
        f"a folder that can be written to, with room for {np.prod(shape) / 1e6:,.1f} MB",
        "--data.packs FOLDER on another disk, or --data.store stream",
    )
