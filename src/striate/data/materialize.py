"""The samples of a listing, decoded into memory if they fit, else into a pack on disk, else again in each epoch.

Masks are always in memory: they need at most a third of the memory of the images, and counting classes reads all of
them. They are read at the start: with a pack of images, from a second pack; with a stream, from their files.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.config import DataConfig, Store
from striate.data.decode import Decoded, array_masks, decode_samples, mask_reader, read_masks, row_reader
from striate.data.listing import Listing
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation
from striate.data.progress import announce_tenths
from striate.data.scan import Scan
from striate.data.store.build import build_pack, remove_if_damaged
from striate.data.store.pack import Pack, open_pack, pack_key, packs_folder
from striate.data.store.stored import ReadRow, Source, StoredInputs, rows_in_block
from striate.data.store.stream import open_stream
from striate.errors import ConfigError, DataError
from striate.machine.memory import available_bytes, total_bytes
from striate.wording import percent, several

MEMORY_SHARE = 0.5
"""Inputs go into memory if they take at most this share of the available memory."""
DISK_SHARE = 0.9
"""A pack may take at most this share of the free disk space."""
_WHILE_READING = 2
"""So many copies of the samples are in memory while they are read: all samples, and those of each split."""


@dataclass(frozen=True)
class Room:
    """Memory and disk space for samples, in bytes."""

    available: int
    """Available memory."""
    total: int
    """Memory of the machine."""
    disk: int
    """Free space on the disk of packs."""


def measure_room(folder: Path | None) -> Room:
    """The current memory and disk space. `folder`: the folder for packs, which need not exist; None: no disk space."""
    places = () if folder is None else (folder, *folder.absolute().parents)
    there = next((path for path in places if path.is_dir()), None)
    try:
        disk = 0 if there is None else shutil.disk_usage(there).free
    except OSError:
        disk = 0
    return Room(available_bytes(), total_bytes(), disk)


def decide_store(
    requested: Store, where: str, shape: tuple[int, ...], room: Room, *, packable: bool, packed: bool, value: int = 1
) -> tuple[Store, str | None]:
    """The store, `memory`, `pack` or `stream`, for inputs of `shape` (N, C, H, W) with `value` bytes per value; and a
    note on why, where it is not memory.

    `packed`: there is a pack of them; `packable`: there can be one. Raises DataError where they do not fit into memory
    and must.
    """
    size = value * math.prod(shape)
    if requested == "memory" or not packable:
        if _WHILE_READING * size > room.total:
            raise _too_large(where, shape, size, room, packable)
        return "memory", None
    if requested != "auto":
        return requested, None
    if _WHILE_READING * size <= MEMORY_SHARE * room.available:
        return "memory", None
    short = (
        f"{size / 1e9:.2f} GB of inputs (twice as much while reading) are more than {percent(MEMORY_SHARE, 0)} of the"
        f" {room.available / 1e9:.2f} GB of available memory"
    )
    if packed or size <= DISK_SHARE * room.disk:
        return "pack", f"Inputs are in a pack on disk: {short} (data.store pack)."
    return "stream", (
        f"Inputs are decoded again in each epoch: {short}, and more than {percent(DISK_SHARE, 0)} of the"
        f" {room.disk / 1e9:.2f} GB of free disk space for packs (data.store stream; data.packs names another disk)."
    )


def _too_large(where: str, shape: tuple[int, ...], size: int, room: Room, packable: bool) -> DataError:
    count, *_, height, width = shape
    scale = (room.total / (_WHILE_READING * size)) ** 0.5
    smaller = f"--size {max(1, int(height * scale))}x{max(1, int(width * scale))}"
    return DataError(
        where,
        f"{several(count, 'image')} × {' × '.join(map(str, shape[1:]))} bytes, twice while reading ="
        f" {_WHILE_READING * size / 1e9:.1f} GB",
        f"at most the {room.total / 1e9:.1f} GB of memory of this machine",
        f"--data.store auto, or {smaller}" if packable else smaller,
    )


PACKABLE = "images, spectrograms or clips"
Announce = Callable[[str], None]


@dataclass(frozen=True)
class Materialized:
    """Decoded samples in a store."""

    decoded: Decoded
    store: Store
    notes: tuple[str, ...] = ()
    """Why this store was chosen."""


@dataclass(frozen=True)
class _Packable:
    """The rows of a pack, which may not exist yet."""

    listing: Listing
    key: str
    shape: tuple[int, ...]
    """(N, C, H, W)."""
    read: ReadRow
    """Decodes a row."""
    many: str
    """The noun for rows: "images"."""
    dtype: str = "uint8"

    def opened(self, folder: Path, *, check: bool = False) -> Pack | None:
        """The pack if it exists and is complete; `check`: and if its digests are right."""
        return open_pack(folder / self.key, self.key, self.shape, check=check)

    def made(self, folder: Path, announce: Announce | None) -> Pack:
        """The pack, which is made if it does not exist or is incomplete. Raises DataError."""
        return build_pack(
            folder,
            self.key,
            self.read,
            self.shape,
            dtype=self.dtype,
            source=self.listing.source,
            progress=announce_tenths(f"Packing {self.listing.name}", self.shape[0], self.many, announce),
            announce=announce or (lambda _: None),
        )

    def made_and_checked(self, folder: Path, announce: Announce | None) -> Pack:
        """The pack, whose digests are checked, and which is made again if it is damaged. Raises DataError."""
        if (folder / self.key).exists() and self.opened(folder, check=True) is None:
            self.removed_if_damaged(folder, announce)
        return self.made(folder, announce)

    def removed_if_damaged(self, folder: Path, announce: Announce | None) -> None:
        """Remove the pack if it is damaged. Raises DataError."""
        remove_if_damaged(folder / self.key, self.key, self.shape, announce=announce or (lambda _: None))


def materialize_samples(
    listing: Listing,
    scan: Scan,
    ids: Sequence[int],
    preparation: Preparation,
    config: DataConfig,
    announce: Announce | None = None,
    *,
    split: Mapping[int, str] | None = None,
) -> Materialized:
    """Decode the samples `ids` once, into the store that `config.store` names, or that has room for them.

    Files decoded into memory are ordered by `split`, so that the inputs of a split are a slice, not a copy. All stores
    give the same pixels. Raises DataError where no store has room, ConfigError for a store that the data cannot have:
    tables and grids are always in memory.
    """
    if not medium_of(preparation.kind).stored:
        _refuse_store(listing, config)
        _refuse_too_large(listing, len(ids), preparation)
        return Materialized(decode_samples(listing, ids, preparation), "memory")
    folder, images = packs_folder(config.packs), _images(listing, scan, ids, preparation)
    pack = images.opened(folder) if config.store != "stream" and folder is not None else None
    where = f"data {listing.source}"
    store, note = decide_store(
        config.store,
        where,
        images.shape,
        measure_room(folder),
        packable=True,
        packed=pack is not None,
        value=np.dtype(images.dtype).itemsize,
    )
    notes = () if note is None else (note,)
    # The pack is read completely in any case, so its digests are checked, whatever the time of the file is.
    if store == "memory" and pack is not None and images.opened(pack.path.parent, check=True) is None:
        place, pack = pack.path.parent, None
        with suppress(DataError):  # a pack that cannot be removed is not used
            images.removed_if_damaged(place, announce)
            pack = images.made(place, announce)
    masks = None if listing.read_mask is None else _masks(listing, scan, ids, preparation)
    masks_pack = None if pack is None or masks is None else masks.opened(pack.path.parent, check=True)
    if store == "memory" and (pack is None or (masks is not None and masks_pack is None)):
        progress = announce_tenths(f"Reading {listing.name}", len(ids), images.many, announce)
        if split is not None:
            ids = sorted(ids, key=split.__getitem__)
        if config.packs is not None and pack is None:
            notes = (*notes, f"There is no pack of these {images.many} in {config.packs}, so they were decoded.")
        return Materialized(decode_samples(listing, ids, preparation, progress), store, notes)
    if store == "stream":
        return Materialized(_streamed(listing, scan, ids, preparation, images.read, announce), store, notes)
    if store == "pack":
        if folder is None:
            why = "no place for a pack, since this user has no home folder"
            raise DataError(where, why, "a folder for it", "--data.packs ./packs")
        if masks is not None and masks_pack is None:  # first, so that a mask of another size is refused at once
            masks_pack = masks.made_and_checked(folder, announce)
        pack = pack or images.made(folder, announce)
    assert pack is not None
    if store == "memory":
        notes = (*notes, f"Decoded images were read from the pack {pack.path}.")
    unreadable, read = pack.record.unreadable, array_masks(listing, ids, preparation)
    if masks_pack is not None:
        pack = replace(pack, masks=masks_pack.path)
        unreadable, read = masks_pack.record.unreadable | unreadable, _masks_of(masks_pack, preparation)
    decoded = _decoded(ids, _stored(pack, unreadable), read, unreadable, in_memory=store == "memory")
    return Materialized(decoded, store, notes)


def _images(listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation) -> _Packable:
    form = () if listing.inputs is None else listing.inputs.shape[1:]
    key = pack_key((scan.contents[i] for i in ids), form, preparation)
    read = row_reader(listing, scan, ids, preparation)
    return _Packable(
        listing, key, (len(ids), *preparation.input_shape), read, listing.medium.many, medium_of(preparation.kind).dtype
    )


def _masks(listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation) -> _Packable:
    """Masks as rows of bytes. The digests of the images are part of the key, since masks were compared with their
    sizes."""
    contents = (part for i in ids for part in (scan.contents[i], scan.labels[i]) if isinstance(part, bytes))
    decode = mask_reader(listing, scan, ids, preparation)

    def read(row: int, out: NDArray[np.uint8]) -> str | None:
        one = MaskPixels.empty(1, preparation)
        why = decode(row, one, 0)
        out[...] = one.to_rows()
        return why

    shape = (len(ids), 1, 1, MaskPixels.row_bytes(preparation))
    return _Packable(listing, pack_key(contents, ("masks",), preparation), shape, read, "masks")


def _masks_of(pack: Pack, preparation: Preparation) -> MaskPixels:
    count, _, _, size = pack.shape
    masks, step = MaskPixels.empty(count, preparation), rows_in_block(pack.shape[1:])
    for start in range(0, count, step):
        rows = np.arange(start, min(start + step, count))
        part = np.empty((len(rows), 1, 1, size), np.uint8)
        pack.read(rows, part)
        masks.enter_rows(start, part.reshape(len(rows), size))
    return masks


def _streamed(
    listing: Listing,
    scan: Scan,
    ids: Sequence[int],
    preparation: Preparation,
    read: ReadRow,
    announce: Announce | None,
) -> Decoded:
    masks, lost = array_masks(listing, ids, preparation), dict[int, str]()
    if listing.read_mask is not None:
        progress = announce_tenths(f"Reading {listing.name}", len(ids), "masks", announce)
        masks, lost = read_masks(listing, scan, ids, preparation, progress)
    stream, unreadable = open_stream(
        read,
        len(ids),
        preparation.input_shape,
        dtype=medium_of(preparation.kind).dtype,
        named=lambda row: f"data {listing.source}, {listing.paths[ids[row]]}",
        progress=announce_tenths(f"Reading {listing.name} once", len(ids), listing.medium.many, announce),
    )
    unreadable = lost | unreadable
    return _decoded(ids, _stored(stream, unreadable), masks, unreadable)


def _stored(source: Source, unreadable: dict[int, str]) -> StoredInputs:
    return StoredInputs(source, np.array([r for r in range(source.shape[0]) if r not in unreadable], dtype=np.int64))


def _decoded(
    ids: Sequence[int],
    inputs: StoredInputs,
    masks: MaskPixels | None,
    unreadable: dict[int, str],
    *,
    in_memory: bool = False,
) -> Decoded:
    chosen = np.asarray(ids, dtype=np.int64)
    reasons = {int(chosen[row]): why for row, why in unreadable.items()}
    if masks is not None and unreadable:
        masks = masks.take(inputs.rows)
    return Decoded(chosen[inputs.rows], inputs[:].numpy() if in_memory else inputs, masks, reasons)


def _refuse_too_large(listing: Listing, count: int, preparation: Preparation) -> None:
    """Raise DataError for files whose inputs must be in memory and do not fit."""
    size = count * math.prod(preparation.input_shape) * np.dtype(medium_of(preparation.kind).dtype).itemsize
    room = total_bytes()
    if listing.inputs is None and _WHILE_READING * size > room:
        raise DataError(
            f"data {listing.source}",
            f"{several(count, 'input')} of {preparation.input_shape} numbers, twice while reading ="
            f" {_WHILE_READING * size / 1e9:.1f} GB",
            f"at most the {room / 1e9:.1f} GB of memory of this machine",
            "--data.view log-mel, which packs can store; or a lower --data.rate, or fewer --data.seconds",
        )


def _refuse_store(listing: Listing, config: DataConfig) -> None:
    """Raise ConfigError for fields that have no effect on data that are always in memory."""
    inputs = f"{listing.medium.name}s"
    if config.store in ("pack", "stream"):
        expected = f"memory: {inputs} cannot be packed or streamed"
        raise ConfigError("data.store", config.store, expected, "--data.store memory")
    if config.packs is not None:
        raise ConfigError(
            "data.packs",
            f"{config.packs}, for {inputs}",
            f"inputs that can be packed: {PACKABLE}",
            "leave out --data.packs (on top of a --config: --data.packs null)",
        )
