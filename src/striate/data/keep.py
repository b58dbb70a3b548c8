"""The samples of a listing, decoded and kept where there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data.config import DataConfig, Store
from striate.data.dataset import Preparation
from striate.data.decode import Decoded, decode_samples, row_reader
from striate.data.listing import Listing
from striate.data.progress import announce_tenths
from striate.data.scan import Scan
from striate.data.store.build import build_pack, remove_unless_whole
from striate.data.store.decide import decide_store, measure_room
from striate.data.store.key import pack_key, packs_folder
from striate.data.store.pack import Pack, open_pack
from striate.data.store.stored import Source, StoredInputs
from striate.data.store.stream import open_stream
from striate.errors import ConfigError, DataError

Announce = Callable[[str], None]


@dataclass(frozen=True)
class Kept:
    """`decoded` samples, the `store` that they are in, `notes` on why, and the `pack` that they were read from."""

    decoded: Decoded
    store: Store
    notes: tuple[str, ...] = ()
    pack: Path | None = None


def keep_samples(
    listing: Listing,
    scan: Scan,
    ids: Sequence[int],
    preparation: Preparation,
    config: DataConfig,
    announce: Announce | None = None,
    *,
    split: Mapping[int, str] | None = None,
) -> Kept:
    """Decode the samples `ids` once, and keep them as `config.store` says, or as there is room.

    Files that are decoded into memory lie there in the order of `split`, so that none of them need be copied to take a
    split out. The same pixels come out of each store. Raises DataError where there is no room, ConfigError where a
    store is asked for that the data cannot have: tables, grids and images with masks lie in memory.
    """
    if not preparation.medium.stored:
        _refuse_store(listing, config)
        return Kept(decode_samples(listing, ids, preparation), "memory")
    packable = listing.annotation != "mask"
    if not packable:
        _refuse_store(listing, config)
    folder, shape = packs_folder(config.packs), (len(ids), *preparation.input_shape)
    form = () if listing.inputs is None else listing.inputs.shape[1:]
    key = pack_key((scan.contents[i] for i in ids), form, preparation)
    usable = packable and config.store != "stream"
    pack = open_pack(folder / key, key, shape) if usable and folder is not None else None
    where = f"data {listing.source}"
    store, note = decide_store(
        config.store, where, shape, measure_room(folder), packable=packable, packed=pack is not None
    )
    notes = () if note is None else (note,)
    # All of it is read anyway: damage is seen here whatever the time of the file says.
    if store == "memory" and pack is not None and open_pack(pack.path, key, shape, check=True) is None:
        damaged, pack = pack.path, None
        with suppress(DataError):  # where it cannot be removed, it is left alone
            remove_unless_whole(damaged, key, shape, announce=announce or (lambda _: None))
            pack = make_pack(listing, scan, ids, preparation, damaged.parent, announce)
    if store == "memory" and pack is None:
        progress = announce_tenths(f"Reading {listing.name}", len(ids), listing.medium.many, announce)
        if split is not None:
            ids = sorted(ids, key=split.__getitem__)
        return Kept(decode_samples(listing, ids, preparation, progress), store, notes)
    if store == "stream":
        return Kept(_streamed(listing, scan, ids, preparation, announce), store, notes)
    if pack is None:
        pack = make_pack(listing, scan, ids, preparation, _there(folder, where), announce)
    if store == "memory":
        notes = (*notes, f"Decoded images were read from the pack {pack.path}.")
    inputs = _stored(pack, pack.record.unreadable)
    kept = _decoded(ids, inputs, pack.record.unreadable, in_memory=store == "memory")
    return Kept(kept, store, notes, pack.path)


def make_pack(
    listing: Listing,
    scan: Scan,
    ids: Sequence[int],
    preparation: Preparation,
    folder: Path,
    announce: Announce | None = None,
) -> Pack:
    """The pack of the samples `ids` in `folder`, made if it is not there or not whole. Raises DataError."""
    form = () if listing.inputs is None else listing.inputs.shape[1:]
    return build_pack(
        folder,
        pack_key((scan.contents[i] for i in ids), form, preparation),
        row_reader(listing, scan, ids, preparation),
        (len(ids), *preparation.input_shape),
        source=listing.source,
        progress=announce_tenths(f"Packing {listing.name}", len(ids), listing.medium.many, announce),
        announce=announce or (lambda _: None),
    )


def _there(folder: Path | None, where: str) -> Path:
    if folder is None:
        raise DataError(
            where, "no place for a pack: this user has no home folder", "a folder for it", "--data.packs ./packs"
        )
    return folder


def _streamed(
    listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation, announce: Announce | None
) -> Decoded:
    stream, unreadable = open_stream(
        row_reader(listing, scan, ids, preparation),
        len(ids),
        preparation.input_shape,
        named=lambda row: f"data {listing.source}, {listing.paths[ids[row]]}",
        progress=announce_tenths(f"Reading {listing.name} once", len(ids), listing.medium.many, announce),
    )
    return _decoded(ids, _stored(stream, unreadable), unreadable)


def _stored(source: Source, unreadable: dict[int, str]) -> StoredInputs:
    return StoredInputs(source, np.array([r for r in range(source.shape[0]) if r not in unreadable], dtype=np.int64))


def _decoded(
    ids: Sequence[int], inputs: StoredInputs, unreadable: dict[int, str], *, in_memory: bool = False
) -> Decoded:
    chosen = np.asarray(ids, dtype=np.int64)
    reasons = {int(chosen[row]): why for row, why in unreadable.items()}
    return Decoded(chosen[inputs.rows], inputs[:].numpy() if in_memory else inputs, None, frozenset(), reasons)


def _refuse_store(listing: Listing, config: DataConfig) -> None:
    """Refuse what has no effect on data that lie in memory."""
    what = "images with masks" if listing.annotation == "mask" else f"a {listing.kind} of numbers"
    if config.store in ("pack", "stream"):
        raise ConfigError("data.store", config.store, f"memory: {what}", "--data.store memory")
    if config.packs is not None:
        raise ConfigError(
            "data.packs",
            f"{config.packs}, for {what}",
            "images with classes or numbers, which can be packed",
            "leave out --data.packs (on top of a --config: --data.packs null)",
        )
