"""Where the inputs go: into memory if they fit, else into a pack if the disk has room, else nowhere."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from striate.data.config import Store
from striate.errors import DataError
from striate.machine.memory import available_bytes, total_bytes

MEMORY_SHARE = 0.5
"""Inputs go into memory where they take no more than this share of what is available."""
DISK_SHARE = 0.9
"""Packs may fill a disk to so much of what is free."""
_WHILE_READING = 2
"""All samples, and those of each split, lie in memory at once until the splits are made."""


@dataclass(frozen=True)
class Room:
    """Bytes: `available` memory, `total` memory, and what is free on the `disk` of packs."""

    available: int
    total: int
    disk: int


def measure_room(folder: Path | None) -> Room:
    """The room that there is now; `folder` need not exist, and without one there is none on a disk."""
    places = () if folder is None else (folder, *folder.absolute().parents)
    there = next((path for path in places if path.is_dir()), None)
    try:
        disk = 0 if there is None else shutil.disk_usage(there).free
    except OSError:
        disk = 0
    return Room(available_bytes(), total_bytes(), disk)


def decide_store(
    asked: Store, where: str, shape: tuple[int, ...], room: Room, *, packable: bool, packed: bool
) -> tuple[Store, str | None]:
    """`memory`, `pack` or `stream` for inputs of `shape` (N, C, H, W), and why, where it is not the usual.

    `packed`: there is a pack of them; `packable`: there could be one. Raises DataError for what has no place.
    """
    size = 1
    for length in shape:
        size *= length
    if asked == "memory" or not packable:
        if _WHILE_READING * size > room.total:
            raise _too_large(where, shape, size, room, packable)
        return "memory", None
    if asked != "auto":
        return asked, None
    if _WHILE_READING * size <= MEMORY_SHARE * room.available:
        return "memory", None
    short = (
        f"{size / 1e9:.2f} GB of inputs, twice while reading, are more than {MEMORY_SHARE:.0%} of the"
        f" {room.available / 1e9:.2f} GB of memory that are available"
    )
    if packed or size <= DISK_SHARE * room.disk:
        return "pack", f"Inputs are in a pack on the disk: {short} (data.store pack)."
    return "stream", (
        f"Inputs are decoded anew in each epoch: {short}, and more than {DISK_SHARE:.0%} of the"
        f" {room.disk / 1e9:.2f} GB free on the disk for packs (data.store stream; data.packs names another disk)."
    )


def _too_large(where: str, shape: tuple[int, ...], size: int, room: Room, packable: bool) -> DataError:
    count, channels, height, width = shape
    scale = (room.total / (_WHILE_READING * size)) ** 0.5
    smaller = f"--size {max(1, int(height * scale))}x{max(1, int(width * scale))}"
    return DataError(
        where,
        f"{count:,} images × {channels} × {height} × {width} bytes, twice while reading ="
        f" {_WHILE_READING * size / 1e9:.1f} GB",
        f"at most the {room.total / 1e9:.1f} GB of memory of this machine",
        f"--data.store auto, or {smaller}" if packable else smaller,
    )
