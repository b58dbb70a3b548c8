"""What a folder of shards says of itself: shards.json has every shard with its size and a digest of each sample.

It is written last, so that a set without it may be the half of one: it is not read as a folder. `.shards.jsonl` beside
shards is the list of those that are done in a set that is still being written.
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
"""Beside shards: the name of each class number, a line each."""
_FORMAT = 1
DIGITS = 16  # of a digest, hexadecimal


@dataclass(frozen=True)
class IndexedShard:
    """A shard of so many `bytes`; `digests` of its samples in the order of their names, one behind the other."""

    name: str
    bytes: int
    digests: str

    @property
    def samples(self) -> int:
        """How many it holds."""
        return len(self.digests) // DIGITS


def sample_digest(name: str, label: str, picture: bytes) -> str:
    """16 hexadecimal digits that are others where the name, the class or the picture is another."""
    digest = hashlib.blake2b(f"{name}\0{label}\0".encode("utf-8", "surrogatepass"), digest_size=DIGITS // 2)
    digest.update(picture)
    return digest.hexdigest()


def classes_digest(folder: Path) -> str:
    """That of classes.txt in the folder; empty where there is none. Raises OSError or DataError."""
    path = folder / CLASSES
    return hashlib.blake2b(read_file(path), digest_size=16).hexdigest() if os.path.lexists(path) else ""


def write_index(folder: Path, shards: Iterable[IndexedShard]) -> None:
    """Write shards.json, to the disk, when everything that it speaks of is there. Raises OSError."""
    rows = [vars(shard) for shard in shards]
    values: dict[str, Any] = {"format": _FORMAT, "classes": classes_digest(folder), "shards": rows}
    replace_file(folder / INDEX, json.dumps(values | {"digest": _digest(values)}, indent=1).encode())


def read_index(folder: Path) -> dict[str, IndexedShard] | None:
    """What shards.json in the folder says; None where there is none. Raises DataError for one that is damaged or not
    that of classes.txt, and for a set that is not finished."""
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
