"""A pack: decoded images in one file, mapped into memory, read by row.

A pack is a folder named by its key, with three files: `inputs` (the values of all images, N × C × H × W), `sums` (N × C
× 2: `channel_sums`, eight bytes each) and `pack.json`, which describes the others, with a digest of each block of
images and a digest of itself.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray

from striate.data.media.medium import Preparation
from striate.data.store.owned_files import OwnedFolder, open_owned_folder
from striate.data.store.stored import rows_in_block, sums_type
from striate.errors import ConfigError, DataError
from striate.machine.cache import cache_folder

FORMAT = 2
_RECORD = "pack.json"
JOURNAL = "blocks.jsonl"
"""In an unfinished pack: a line for each finished block."""
_FILES = ("inputs", "sums", _RECORD, f"{_RECORD}.new", JOURNAL)


@dataclass(frozen=True)
class PackRecord:
    """The content of pack.json."""

    format: int
    """The version of the format."""
    key: str
    source: str
    """The data argument."""
    shape: tuple[int, ...]
    """(N, C, H, W)."""
    digests: tuple[str, ...]
    """For each block, a digest of its images, sums and unreadable rows."""
    unreadable: dict[int, str]
    """Why an image cannot be read, by row."""
    modified: int
    """Time of the last change of `inputs` when they were last verified, in nanoseconds by the file system."""
    dtype: str = "uint8"
    """NumPy's name of the type of `inputs`."""


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack, as a `Source`."""

    path: Path
    record: PackRecord
    mapped: mmap.mmap = field(repr=False)
    masks: Path | None = None
    """The pack of the masks of the images; None where they have none."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, H, W)."""
        return self.record.shape

    @property
    def piece(self) -> None:
        """None: one thread reads, since the disk limits the speed."""
        return

    @property
    def threads(self) -> int:
        """1."""
        return 1

    @property
    def bytes(self) -> int:
        """Size of the images on disk."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def dtype(self) -> np.dtype:
        """The type of the images."""
        return np.dtype(self.record.dtype)

    def read(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy the images `rows` into `out`; they are read in the order of the file."""
        images = np.frombuffer(self.mapped, self.dtype).reshape(self.shape)
        order = np.argsort(rows, kind="stable")
        self._announce(rows[order])
        for start in range(0, len(order), rows_in_block(self.shape[1:])):
            part = order[start : start + rows_in_block(self.shape[1:])]
            out[part] = images[rows[part]]
            if hasattr(mmap, "MADV_DONTNEED"):  # the pages that were read no longer count as memory of this process
                self.mapped.madvise(mmap.MADV_DONTNEED)

    def _announce(self, rows: NDArray[np.int64]) -> None:
        """Tell the system which parts of the file are read next, so that it reads them together."""
        size = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        if size < mmap.PAGESIZE or not hasattr(mmap, "MADV_WILLNEED"):
            return
        for row in rows.tolist():
            start = row * size // mmap.PAGESIZE * mmap.PAGESIZE
            self.mapped.madvise(mmap.MADV_WILLNEED, start, (row + 1) * size - start)

    def sums(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Sums and sums of squares by channel of the images `rows`."""
        chosen: NDArray[Any] = read_sums(self.path, self.shape, self.dtype)[rows]
        return chosen


def read_sums(path: Path, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    """(N, C, 2): the sums of a pack of `shape` and `dtype`."""
    return np.fromfile(path / "sums", sums_type(dtype)).reshape(*shape[:2], 2)


def block_digest(images: NDArray[Any], sums: NDArray[Any], unreadable: dict[int, str]) -> str:
    """The digest of a block; `unreadable`: reasons by row."""
    digest = hashlib.blake2b(np.ascontiguousarray(images).data, digest_size=16)
    digest.update(np.ascontiguousarray(sums, sums_type(images.dtype)).data)
    digest.update(json.dumps(unreadable, sort_keys=True).encode())
    return digest.hexdigest()


def open_pack(path: Path, key: str, shape: tuple[int, ...], *, check: bool = False) -> Pack | None:
    """The pack at `path`; None where there is none with this key and `shape` (N, C, H, W), it is damaged, or it is a
    link or belongs to another user.

    The digests of its blocks are checked if the file has changed since the last check, or if `check` is set.
    """
    try:
        with open_owned_folder(path) as folder:
            record = _read_record(folder)
            if (record.format, record.key, record.shape) != (FORMAT, key, shape):
                return None
            with folder.read("inputs") as file, folder.read("sums") as sums:
                status, size = os.fstat(file.fileno()), os.fstat(sums.fileno()).st_size
                expected = int(np.prod(shape)) * np.dtype(record.dtype).itemsize
                if (status.st_size, size) != (expected, 16 * shape[0] * shape[1]):
                    return None
                pack = Pack(path, record, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            touched = status.st_mtime_ns != record.modified
            if (check or touched) and not _is_intact(pack):
                return None
            if touched:  # else every start would check it all, as it does where the record cannot be written
                with suppress(OSError, DataError):
                    write_record(folder, replace(record, modified=status.st_mtime_ns))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return None
    return pack


def _read_record(folder: OwnedFolder) -> PackRecord:
    """The content of pack.json. Raises ValueError or another error for a file that has changed."""
    with folder.read(_RECORD) as file:
        values = json.loads(file.read())
    digest = values.pop("digest")
    if digest != _record_digest(values):
        raise ValueError("not as it was written")
    values["shape"], values["digests"] = tuple(map(int, values["shape"])), tuple(values["digests"])
    values["unreadable"] = {int(row): str(why) for row, why in values["unreadable"].items()}
    return PackRecord(**values)


def write_record(folder: OwnedFolder, record: PackRecord) -> None:
    """Write pack.json, and sync it to disk. Raises OSError or DataError."""
    values = json.loads(json.dumps(asdict(record)))  # row numbers are text in JSON, and their digest is of that
    folder.replace(_RECORD, json.dumps(values | {"digest": _record_digest(values)}).encode())


def _record_digest(values: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


def _is_intact(pack: Pack) -> bool:
    images = np.frombuffer(pack.mapped, pack.dtype).reshape(pack.shape)
    sums, size = read_sums(pack.path, pack.shape, pack.dtype), rows_in_block(pack.shape[1:])
    unreadable: list[dict[int, str]] = [{} for _ in range(-(-pack.shape[0] // size))]
    for row, why in pack.record.unreadable.items():
        unreadable[row // size][row] = why
    if len(pack.record.digests) != len(unreadable):
        return False
    for number, digest in enumerate(pack.record.digests):
        rows = slice(number * size, (number + 1) * size)
        if block_digest(images[rows], sums[rows], unreadable[number]) != digest:
            return False
        if hasattr(mmap, "MADV_DONTNEED"):
            pack.mapped.madvise(mmap.MADV_DONTNEED)
    return True


def remove_pack(path: Path) -> None:
    """Remove the files of a pack, and its folder. Raises OSError; DataError if the folder has other files."""
    with open_owned_folder(path) as folder:
        for name in _FILES:
            folder.remove(name)
    try:
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(
            f"pack {path}",
            error.strerror or str(error),
            "a pack, or nothing, in this place",
            "another place for packs: --data.packs FOLDER",
        ) from None


_DECODING = 1
"""Version of decoding; increase it when striate decodes a file to other bytes."""


def packs_folder(chosen: str | None) -> Path | None:
    """`chosen`, else `packs` in the cache folder; None where there is none. Raises ConfigError for the `~` of an
    unknown user."""
    if not chosen:
        cache = cache_folder()
        return None if cache is None else cache / "packs"
    try:
        return Path(chosen).expanduser()
    except RuntimeError:
        raise ConfigError(
            "data.packs", chosen, "the home folder of a user of this machine, or another path", "--data.packs ./packs"
        ) from None


def pack_key(contents: Iterable[bytes], form: tuple[int | str, ...], preparation: Preparation) -> str:
    """The key of a pack: 32 hexadecimal digits that are the same for the same pixels.

    It is a hash of the digests of the samples in their order, their preparation, the versions of the decoders, and
    `form`: the shape of arrays, a mark for masks, empty for files.
    """
    how: list[object] = [preparation.input_shape, preparation.fit, preparation.max_pixels, preparation.reduced, form]
    how += [preparation.rate, preparation.samples, preparation.window, preparation.hop] if preparation.rate else []
    how += [preparation.low, preparation.high, preparation.depths, preparation.pages] if preparation.low else []
    how += (
        [preparation.kind, _version("av"), _version("opencv-python-headless")]
        if len(preparation.input_shape) == 4
        else []
    )
    how += [FORMAT, _DECODING, PIL.__version__, _version("simplejpeg"), torch.__version__]
    digest = hashlib.sha256(json.dumps(how).encode())
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:32]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
