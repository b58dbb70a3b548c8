"""The index of a folder of shards: shards.json has the size of every shard, and a digest of each sample.

It is written last, so a folder without it may be incomplete, and is not read. While shards are written, `.shards.jsonl`
lists the finished ones.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.data.sources.tree import read_file
from striate.errors import DataError, pasted

INDEX = "shards.json"
UNFINISHED = ".shards.jsonl"
CLASSES = "classes.txt"
"""A file beside the shards: line i, from 0, is the name of class i."""
_FORMAT = 1
DIGITS = 16  # hexadecimal digits of a digest


@dataclass(frozen=True)
class IndexedShard:
    """The entry of a shard in an index."""

    name: str
    bytes: int
    """Size of the shard."""
    digests: str
    """The digests of its samples, concatenated in the order of their names."""

    @property
    def samples(self) -> int:
        """The number of its samples."""
        return len(self.digests) // DIGITS


def sample_digest(name: str, label: str, picture: bytes) -> str:
    """A digest of name, class and picture: 16 hexadecimal digits."""
    digest = hashlib.blake2b(f"{name}\0{label}\0".encode("utf-8", "surrogatepass"), digest_size=DIGITS // 2)
    digest.update(picture)
    return digest.hexdigest()


def classes_digest(folder: Path) -> str:
    """The digest of classes.txt in the folder; empty where there is none. Raises OSError or DataError."""
    path = folder / CLASSES
    return hashlib.blake2b(read_file(path), digest_size=16).hexdigest() if os.path.lexists(path) else ""


def write_index(folder: Path, shards: Iterable[IndexedShard]) -> None:
    """Write shards.json, and sync it to disk; all files that it lists must exist. Raises OSError."""
    rows = [vars(shard) for shard in shards]
    values: dict[str, Any] = {"format": _FORMAT, "classes": classes_digest(folder), "shards": rows}
    replace_file(folder / INDEX, json.dumps(values | {"digest": _digest(values)}, indent=1).encode())


def read_index(folder: Path) -> dict[str, IndexedShard] | None:
    """The shards in shards.json, by name; None where there is no such file. Raises DataError for a damaged index, one
    that does not fit classes.txt, and for shards that are not all written."""
    path = folder / INDEX
    if not os.path.lexists(path):
        if os.path.lexists(folder / UNFINISHED):
            raise _unfinished(folder)
        return None
    try:
        values = json.loads(read_file(path))
        digest = values.pop("digest")
        if digest != _digest(values) or values["format"] != _FORMAT:
            raise ValueError("not as it was written")
        if values["classes"] != classes_digest(folder):
            raise ValueError(f"{CLASSES} has changed since the index was written")
        rows = [IndexedShard(str(row["name"]), int(row["bytes"]), str(row["digests"])) for row in values["shards"]]
        return {shard.name: shard for shard in rows}
    except DataError:
        raise
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        got = f"{INDEX}, which does not fit or is damaged: {str(error)[:160]}"
        raise DataError(f"data {folder}", got, "the unchanged list of all shards", made_anew(folder)) from None


def made_anew(folder: Path) -> str:
    """The remedy where an index is missing or is not that of its shards."""
    return f"if these are all your shards: striate data index {pasted(folder)}; otherwise pack the data again"


def _unfinished(folder: Path) -> DataError:
    try:
        begun = json.loads(read_file(folder / UNFINISHED).split(b"\n")[0])
        source, megabytes = pasted(begun["source"]), float(begun["megabytes"])
        remedy = f"finish it: striate data pack {source} --shards {pasted(folder)} --shard-size {megabytes:g}"
    except (OSError, DataError, ValueError, TypeError, LookupError):
        remedy = f"remove it, and pack the data again: rm -r {pasted(folder)}"
    got = "an incomplete set of shards: writing was interrupted, or has not finished"
    return DataError(f"data {folder}", got, f"a complete set, with {INDEX}, which is written last", remedy)


def replace_file(path: Path, content: bytes) -> None:
    """Give a file this content, all at once, to the disk. Raises OSError."""
    part = path.with_name(f".{path.name.lstrip('.')}.part")
    part.unlink(missing_ok=True)
    with part.open("xb") as file:  # never through a link
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flush what was renamed in `folder` to the disk. Does nothing where folders cannot be opened (Windows)."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(values: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()
