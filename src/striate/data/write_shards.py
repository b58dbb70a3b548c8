"""A data set as WebDataset shards: unchanged pictures, in a random order, in uncompressed tar files."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
from PIL import Image

from striate.data.config import DataConfig
from striate.data.fingerprint import content_digest
from striate.data.listing import Listing
from striate.data.progress import announce_tenths
from striate.data.sources.list_source import list_source
from striate.data.sources.shard_index import (
    CLASSES,
    INDEX,
    UNFINISHED,
    IndexedShard,
    flush_folder,
    read_index,
    replace_file,
    sample_digest,
    write_index,
)
from striate.data.sources.shards import (
    OWN_SHARD,
    ShardSample,
    digest_samples,
    samples_of,
    shards_in,
    written_by_striate,
)
from striate.data.store.owned_files import open_owned_file
from striate.errors import DataError, pasted
from striate.wording import several

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class WrittenShards:
    """The shards of a data set that were written."""

    path: Path
    """Their folder."""
    data: str
    """The name of the data."""
    samples: int
    """Number of samples."""
    shards: int
    """Number of files."""
    bytes: int
    """Their total size."""


def write_shards(
    config: DataConfig, out: Path, megabytes: float = 256.0, *, announce: Callable[[str], None] = lambda _: None
) -> WrittenShards:
    """Write the pictures of a data set, byte for byte, into `out`, a new or empty folder.

    It gets `train-000000.tar` and so on for splits that the source gives, `data-000000.tar` for samples without a
    split, each of about `megabytes`; `classes.txt`; and last `shards.json`, without which the folder is not read. The
    order of samples is random and depends only on their number, so that the beginning of a shard has all classes.
    Arrays become PNG. If the call is interrupted, or the disk is full, complete shards remain, and the same call
    continues after them; if the data cannot be read, nothing remains. Raises DataError.
    """
    listing = list_source(config, "class", announce)
    if listing.annotation != "class" or not listing.medium.pictures:
        kind = listing.annotation if listing.medium.pictures else listing.kind
        raise DataError(
            f"data {config.source}", f"{kind} data", "pictures with one class each", "train on the data directly"
        )
    begun = {"source": listing.source, "megabytes": megabytes, "samples": fingerprint_of_listing(listing)}
    done: list[IndexedShard] = []
    try:
        with _journal(out, begun) as journal:
            try:
                _write_split_by_split(listing, out, megabytes * _MEGABYTE, done, journal, announce)
            except (DataError, OSError) as error:
                if isinstance(error, DataError) or not shards_in(out):  # corrected data are another set
                    _remove(out)
                raise
            replace_file(out / CLASSES, "".join(f"{name}\n" for name in listing.classes).encode())
            write_index(out, done)
        (out / UNFINISHED).unlink(missing_ok=True)
    except OSError as error:
        remedy = "free some space, or --shards on another disk; if some shards exist, the same command continues"
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            remedy = "make this folder writable, then repeat the command; or --shards in a writable folder"
        raise _unwritable(out, error, remedy) from None
    size = sum(shard.bytes for shard in done) + (out / CLASSES).stat().st_size
    return WrittenShards(out, listing.name, len(listing), len(done), size)


def index_shards(folder: Path, *, announce: Callable[[str], None] = lambda _: None) -> WrittenShards:
    """Read every sample of the shards in a folder, which must be complete, and write their shards.json.

    Raises DataError for a shard that cannot be read, and for shards of which striate has not written all.
    """
    if not folder.is_dir():
        got, remedy = "nothing there", f"check the path, seen from {Path.cwd()}"
        if folder.exists():
            got, remedy = "a file", f"striate data index {pasted(folder.parent)}"
        raise DataError(f"data {folder}", got, "a folder with .tar files", remedy)
    listed = [(path, samples_of(path)) for path in shards_in(folder)]
    _refuse_part(folder, listed)
    total = sum(len(samples) for _, samples in listed)
    progress = announce_tenths(f"Reading {folder}", total, "samples", announce)
    rows = []
    for path, samples in listed:
        try:
            rows.append(IndexedShard(path.name, path.stat().st_size, digest_samples(samples)))
        except OSError as error:
            remedy = "get the shard again"
            raise DataError(f"shard {path}", error.strerror or str(error), "a readable shard", remedy) from None
        progress(len(samples))
    try:
        write_index(folder, rows)
    except OSError as error:
        remedy = "make the folder writable, with some free space; or copy the shards to another folder"
        raise _unwritable(folder, error, remedy) from None
    return WrittenShards(folder, folder.resolve().name, total, len(rows), sum(row.bytes for row in rows))


def _refuse_part(folder: Path, listed: Sequence[tuple[Path, Sequence[ShardSample]]]) -> None:
    """Raise DataError if there is no sample, or if striate has not written all shards: it numbers samples from 0, and
    writes classes.txt after the shards."""
    if os.path.lexists(folder / UNFINISHED) and not os.path.lexists(folder / INDEX):
        read_index(folder)
    if not any(samples for _, samples in listed):
        expected = "samples of a picture and a class: 0001.jpg, 0001.cls"
        raise DataError(f"data {folder}", "no sample in a shard", expected, "give a folder with .tar files")
    names = [sample.name for _, samples in listed for sample in samples]
    numbers = {int(name[:8]) for name in names} if all(written_by_striate(*shard) for shard in listed) else set()
    lacking = max(numbers, default=-1) + 1 - len(numbers)
    if any(folder.glob(".*.tar.part")) or lacking or (numbers and not (folder / CLASSES).exists()):
        what = (
            f"shards that lack {lacking:,} of {several(lacking + len(numbers), 'sample')}"
            if lacking
            else "a part of a set"
        )
        got = f"{what}: writing was interrupted"
        remedy = f"striate data pack DATA --shards {pasted(f'{folder}-2')}, with the data that they were made from"
        raise DataError(f"data {folder}", got, "all shards of a set", remedy)


def fingerprint_of_listing(listing: Listing) -> str:
    """A digest of what the shards depend on: names, classes and splits of all samples, and sizes and times of files."""
    digest = hashlib.blake2b(digest_size=16)
    root = Path(listing.source)
    for number, row in enumerate(zip(listing.paths, listing.labels, listing.given, strict=True)):
        content = "" if listing.inputs is None else content_digest(np.ascontiguousarray(listing.inputs[number]).data)
        status = None
        with suppress(OSError, ValueError):
            status = ((root if root.is_dir() else root.parent) / listing.paths[number]).stat()
        stamp = None if status is None else (status.st_size, status.st_mtime_ns)
        digest.update(repr((row, content, stamp)).encode("utf-8", "surrogatepass"))
    with suppress(OSError, ValueError):
        digest.update(repr((root.stat().st_size, root.stat().st_mtime_ns)).encode() if root.is_file() else b"")
    return digest.hexdigest()


@contextmanager
def _journal(out: Path, begun: dict[str, object]) -> Iterator[IO[bytes]]:
    """The list of complete shards, open after its last complete line; its first line describes the data.

    It is on disk before the first shard, until the index is, so that an incomplete set always has it.
    """
    out.mkdir(parents=True, exist_ok=True)
    path = out / UNFINISHED
    if not os.path.lexists(path):
        if any(entry.name != f".{UNFINISHED.lstrip('.')}.part" for entry in out.iterdir()):
            whole = (out / INDEX).exists()
            raise _occupied(out, "a complete set of shards" if whole else "a path with other content")
        replace_file(path, json.dumps(begun).encode() + b"\n")
        flush_folder(out.parent)
    try:
        opened = open_owned_file(path)
    except DataError as error:
        raise _occupied(out, f"{UNFINISHED}, {error.got}") from None
    with opened as file:
        with suppress(ImportError):  # Windows has no such locks
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise _occupied(out, "another process that is writing shards there") from None
        if file.readline() != json.dumps(begun).encode() + b"\n":
            raise _occupied(out, "unfinished shards of other data, or of another --shard-size")
        yield file


def _occupied(out: Path, what: str) -> DataError:
    expected = "a new or empty folder, or one with unfinished shards of the same data"
    return DataError(f"--shards {out}", what, expected, f"--shards {out}-2")


def _unwritable(out: Path, error: OSError, remedy: str) -> DataError:
    return DataError(f"shards in {out}", error.strerror or str(error), "a writable folder with free space", remedy)


def _continued(out: Path, journal: IO[bytes]) -> dict[str, IndexedShard]:
    """The shards that agree with the journal, by reading them again; truncates the journal after the last of them."""
    whole: dict[str, IndexedShard] = {}
    end = journal.tell()
    for line in journal.read().split(b"\n")[:-1]:
        try:
            shard = IndexedShard(**json.loads(line))
            path = out / shard.name
            if not OWN_SHARD.fullmatch(shard.name) or path.stat().st_size != shard.bytes:
                break
            if digest_samples(samples_of(path)) != shard.digests:
                break
        except (ValueError, TypeError, OSError):  # DataError is a ValueError
            break
        whole[shard.name] = shard
        end += len(line) + 1
    journal.seek(end)
    journal.truncate()
    return whole


def _write_split_by_split(
    listing: Listing,
    out: Path,
    most: float,
    done: list[IndexedShard],
    journal: IO[bytes],
    announce: Callable[[str], None],
) -> None:
    """Write the missing shards. A complete shard gets its name, and is entered into the journal when it is on disk;
    `done` lists these, and those that existed."""
    whole = _continued(out, journal)
    if whole:
        announce(f"Continuing after {several(len(whole), 'shard')}.")
    for split in sorted({given or "data" for given in listing.given}):
        ids = [i for i, given in enumerate(listing.given) if (given or "data") == split]
        order = np.random.default_rng(0).permutation(len(ids))
        rest, number = [ids[k] for k in order.tolist()], 0
        while rest:
            path = out / f"{split}-{number:06}.tar"
            shard = whole.get(path.name)
            if shard is None:
                shard = _write_one(listing, path, rest, most)
                journal.write(json.dumps(vars(shard)).encode() + b"\n")
                journal.flush()
                os.fsync(journal.fileno())
            done.append(shard)
            rest, number = rest[max(1, shard.samples) :], number + 1
        announce(f"{split}: {several(len(ids), 'sample')}")


def _write_one(listing: Listing, path: Path, ids: Sequence[int], most: float) -> IndexedShard:
    """Write one shard of the first of `ids`, as many as reach `most` bytes, and sync it to disk."""
    part = path.with_name(f".{path.name}.part")
    digests: dict[str, str] = {}
    assert listing.targets is not None
    try:
        part.unlink(missing_ok=True)
        with part.open("xb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
                for number in ids:
                    extension, picture = _picture(listing, number)
                    name, label = f"{number:08}.{extension}", str(int(listing.targets[number]))
                    _add(archive, name, picture)
                    _add(archive, f"{number:08}.cls", label.encode())
                    digests[name] = sample_digest(name, label, picture)
                    if file.tell() >= most:
                        break
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    flush_folder(path.parent)
    return IndexedShard(path.name, size, "".join(digests[name] for name in sorted(digests)))


def _remove(out: Path) -> None:
    """Remove what this call and earlier ones wrote."""
    for path in [path for path in shards_in(out) if OWN_SHARD.fullmatch(path.name)] + [out / UNFINISHED]:
        path.unlink(missing_ok=True)
    with suppress(OSError):
        out.rmdir()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # time, owner and group are 0: the same data give the same bytes
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _picture(listing: Listing, number: int) -> tuple[str, bytes]:
    """Extension and content of a picture; arrays become PNG. Raises DataError for a file that cannot be read."""
    if listing.inputs is not None:
        pixels = np.moveaxis(listing.inputs[number], 0, -1)
        buffer = io.BytesIO()
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return "png", buffer.getvalue()
    assert listing.read is not None
    path = listing.paths[number]
    try:
        return PurePosixPath(path).suffix.lower().lstrip(".") or "jpg", listing.read(number)
    except OSError as error:
        raise DataError(
            f"data {listing.source}, {path}",
            error.strerror or str(error),
            "a file that can be read",
            f"remove it, or leave it out with a manifest: striate data check {pasted(listing.source)}",
        ) from None
