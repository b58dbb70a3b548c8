"""A data set as WebDataset shards: pictures as they are, in a random order, in uncompressed tar files."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from striate.data.config import DataConfig
from striate.data.listing import Listing
from striate.data.sources.list_source import list_source
from striate.data.sources.shards import CLASSES
from striate.errors import DataError, pasted
from striate.wording import several

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class WrittenShards:
    """`samples` of the data set `data` in `shards` files in the folder `path`, `bytes` in all."""

    path: Path
    data: str
    samples: int
    shards: int
    bytes: int


def write_shards(
    config: DataConfig, out: Path, megabytes: float = 256.0, *, announce: Callable[[str], None] = lambda _: None
) -> WrittenShards:
    """Write the pictures of a data set, byte for byte, into `out`, new or empty: `train-000000.tar` and so on for
    splits that the source gives, `data-000000.tar` for what has none, each of about `megabytes`, and `classes.txt`.

    Samples are in an order drawn from nothing but their number, so that whoever reads a shard from its start gets
    the classes mixed. Arrays become PNG. What was written before a failure is removed. Raises DataError.
    """
    listing = list_source(config, "class", announce)
    if listing.annotation != "class" or not listing.medium.pictures:
        kind = listing.annotation if listing.medium.pictures else listing.kind
        raise DataError(f"data {config.source}", f"{kind} data", "pictures with a class each", "train on it as it is")
    made: list[Path] = []
    try:
        _make_folder(out)
        for split in sorted({given or "data" for given in listing.given}):
            ids = [i for i, given in enumerate(listing.given) if (given or "data") == split]
            _write_split(listing, ids, out / split, megabytes * _MEGABYTE, made)
            announce(f"{split}: {several(len(ids), 'sample')}")
        names = out / CLASSES
        made.append(names)
        names.write_text("".join(f"{name}\n" for name in listing.classes), encoding="utf-8")
    except BaseException as error:
        for path in made:
            path.unlink(missing_ok=True)
        with suppress(OSError):
            out.rmdir()
        if isinstance(error, OSError):
            raise _unwritable(out, error) from None
        raise
    size = sum(path.stat().st_size for path in made)
    return WrittenShards(out, listing.name, len(listing), len(made) - 1, size)


def _make_folder(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"--shards {out}", "a path that holds something", "a new or empty folder", f"--shards {out}-2")
    out.mkdir(parents=True, exist_ok=True)


def _unwritable(out: Path, error: OSError) -> DataError:
    reason = error.strerror or str(error)
    return DataError(f"shards in {out}", reason, "a folder with room that can be written", "--shards on another disk")


def _write_split(listing: Listing, ids: list[int], stem: Path, most: float, made: list[Path]) -> None:
    """Shards are named when they are whole; `made` gets each file before it is written, so that it can be removed."""
    order = np.random.default_rng(0).permutation(len(ids))
    rest = iter([ids[k] for k in order.tolist()])
    first, number = next(rest, None), 0
    while first is not None:
        path = stem.with_name(f"{stem.name}-{number:06}.tar")
        part = path.with_name(f".{path.name}.part")
        made.append(part)
        first = _write_one(listing, part, first, rest, most)
        made[-1] = part.rename(path)
        number += 1


def _write_one(listing: Listing, path: Path, first: int, rest: Iterator[int], most: float) -> int | None:
    """One shard, from the sample `first` on; the sample that comes after it, if any."""
    number: int | None = first
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            while number is not None:
                extension, picture = _picture(listing, number)
                _add(archive, f"{number:08}.{extension}", picture)
                assert listing.targets is not None
                _add(archive, f"{number:08}.cls", str(int(listing.targets[number])).encode())
                number = next(rest, None)
                if file.tell() >= most:
                    break
        file.flush()
        os.fsync(file.fileno())
    return number


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # time, owner and group are 0: the same data give the same bytes
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def _picture(listing: Listing, number: int) -> tuple[str, bytes]:
    """Extension and content; of arrays, as PNG. Raises DataError for what cannot be read."""
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
