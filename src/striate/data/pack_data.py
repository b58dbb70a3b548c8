"""A data set packed on purpose, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.read import load_dataset
from striate.data.store.build import remove_unless_whole
from striate.data.store.pack import Pack, open_pack
from striate.data.store.stored import StoredInputs
from striate.errors import ConfigError, DataError, pasted
from striate.records import Finding


@dataclass(frozen=True)
class PackedData:
    """A whole pack at `path`: `images` decoded images of `shape` (C, H, W), with `value_bytes` a value, `bytes` on the
    disk, with those of the pack of their masks, of the `data` from `source`; `notes` and `findings` of the data."""

    path: Path
    data: str
    source: str
    images: int
    shape: tuple[int, ...]
    value_bytes: int
    bytes: int
    notes: tuple[str, ...]
    findings: tuple[Finding, ...]


def pack_data(
    config: DataConfig, *, annotation: str | None = None, announce: Callable[[str], None] = lambda _: None
) -> PackedData:
    """Make the pack of a data set in `config.packs`, or go on making it; one that is there is compared with its
    digests, and made anew where it is damaged.

    Raises DataError or ConfigError, also for data that cannot be packed.
    """
    config = replace(config, store="pack", fingerprint=None)
    try:
        data = load_dataset(config, annotation=annotation, announce=announce)
    except ConfigError as error:
        if error.where != "data.store":
            raise
        remedy = f"train on it as it is: striate train {pasted(config.source)}"
        raise DataError(f"data {config.source}", error.expected.removeprefix("memory: "), "images", remedy) from None
    pack = _pack_of(data)
    if open_pack(pack.path, pack.record.key, pack.shape, check=True) is None:
        remove_unless_whole(pack.path, pack.record.key, pack.shape, announce=announce)
        data = load_dataset(config, annotation=annotation, announce=announce)
        pack = _pack_of(data)
    images = sum(len(split) for split in data.splits.values())
    places = (pack.path,) if pack.masks is None else (pack.path, pack.masks)
    size = sum(file.stat().st_size for place in places for file in place.iterdir())
    shape, width = data.input_shape, pack.dtype.itemsize
    return PackedData(pack.path, data.name, data.source, images, shape, width, size, data.notes, data.findings)


def _pack_of(data: Dataset) -> Pack:
    inputs = next(iter(data.splits.values())).inputs
    if not isinstance(inputs, StoredInputs) or not isinstance(inputs.source, Pack):
        raise DataError(
            f"data {data.source}", f"inputs in the store {data.store}", "inputs in a pack", "--data.store pack"
        )
    return inputs.source
