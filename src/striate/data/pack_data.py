"""`striate data pack`: packs a data set before training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from striate.data.config import DataConfig
from striate.data.dataset import Dataset
from striate.data.materialize import PACKABLE
from striate.data.read import load_dataset
from striate.data.store.build import remove_if_damaged
from striate.data.store.pack import Pack, open_pack
from striate.data.store.stored import StoredInputs
from striate.errors import ConfigError, DataError, pasted
from striate.records import Finding


@dataclass(frozen=True)
class PackedData:
    """A complete pack of a data set."""

    path: Path
    data: str
    """The name of the data."""
    source: str
    """The data argument."""
    kind: str
    """The name of the medium: `image`, `spectrogram`, …"""
    images: int
    """Number of images, or of clips or sounds."""
    shape: tuple[int, ...]
    """(C, H, W) of an image or spectrogram, (C, T, H, W) of a clip."""
    value_bytes: int
    """Bytes of a value."""
    bytes: int
    """Bytes on disk, including the pack of the masks."""
    notes: tuple[str, ...]
    """Notes on the data."""
    findings: tuple[Finding, ...]
    """Findings about the data."""


def pack_data(
    config: DataConfig, *, annotation: str | None = None, announce: Callable[[str], None] = lambda _: None
) -> PackedData:
    """Make the pack of a data set in `config.packs`, or continue an unfinished one. The digests of an existing pack are
    checked, and it is made again if it is damaged.

    Raises DataError or ConfigError, also for data that cannot be packed.
    """
    config = replace(config, store="pack", fingerprint=None)
    try:
        data = load_dataset(config, annotation=annotation, announce=announce)
    except ConfigError as error:
        if error.where != "data.store":
            raise
        remedy = f"train on it as it is: striate train {pasted(config.source)}"
        raise DataError(f"data {config.source}", error.expected.removeprefix("memory: "), PACKABLE, remedy) from None
    pack = _pack_of(data)
    if open_pack(pack.path, pack.record.key, pack.shape, check=True) is None:
        remove_if_damaged(pack.path, pack.record.key, pack.shape, announce=announce)
        data = load_dataset(config, annotation=annotation, announce=announce)
        pack = _pack_of(data)
    images = sum(len(split) for split in data.splits.values())
    places = (pack.path,) if pack.masks is None else (pack.path, pack.masks)
    size = sum(file.stat().st_size for place in places for file in place.iterdir())
    shape, width = data.input_shape, pack.dtype.itemsize
    return PackedData(
        pack.path, data.name, data.source, data.kind, images, shape, width, size, data.notes, data.findings
    )


def _pack_of(data: Dataset) -> Pack:
    inputs = next(iter(data.splits.values())).inputs
    if not isinstance(inputs, StoredInputs) or not isinstance(inputs.source, Pack):
        raise DataError(
            f"data {data.source}", f"inputs in the store {data.store}", "inputs in a pack", "--data.store pack"
        )
    return inputs.source
