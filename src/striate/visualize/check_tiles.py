"""Which pictures of a checked data set are drawn, and their pixels."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.evidence import Evidence
from striate.data.audit.marked import Marked
from striate.data.audit.record import DataCheck
from striate.data.dataset import Preparation
from striate.data.media.every import medium_of
from striate.errors import DataError, UsageError
from striate.visualize.canvas import save_figure
from striate.visualize.check_sheet import COLUMNS, SheetRow, SheetTile, sheet_figure

_SIDE = 160
_ROWS = 24


def refuse_sheet(kind: str, option: str = "--sheet") -> None:
    """Raise UsageError for data that are no images."""
    if not medium_of(kind).pictures:
        raise UsageError(
            option, f"{medium_of(kind).a}, which has no pictures", "data that are images", f"leave out {option}"
        )


def draw_sheet(check: DataCheck, out: Path) -> Path | None:
    """Draw up to six samples of each finding that is about single samples; None where there is no such finding."""
    rows = [row for mark in check.marked if (row := _row(check.evidence, mark)) is not None]
    if not rows:
        return None
    listing = check.evidence.listing
    title = f"{listing.name}: what a check of {len(listing):,} images found"
    return save_figure(sheet_figure(rows[:_ROWS], title=title), out, dpi=120)


def _row(evidence: Evidence, mark: Marked) -> SheetRow | None:
    if not mark.groups:
        return None
    tiles: list[SheetTile] = []
    for place, group in enumerate(islice(mark.groups, COLUMNS)):
        shown = _telling(evidence, group, COLUMNS - len(tiles))
        tiles += [_tile(evidence, mark, number, place) for number in shown]
        if len(tiles) >= COLUMNS:
            break
    heading = re.split(r": | \(", mark.finding.measured)[0]
    return SheetRow(mark.finding.code, mark.finding.severity, heading, tuple(tiles))


def _telling(evidence: Evidence, group: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The samples of a group that tell why it is one: the first of each split and label, or two copies."""
    if len(group) == 1:
        return group
    first: dict[tuple[str, str], int] = {}
    for number in group:
        first.setdefault((evidence.splits.get(number, ""), evidence.listing.labels[number]), number)
    chosen = sorted(first.values()) if len(first) > 1 else list(group[:2])
    return tuple(chosen[:most]) if most >= 2 else ()


def _tile(evidence: Evidence, mark: Marked, number: int, group: int) -> SheetTile:
    return SheetTile(
        None if number in evidence.unreadable else _pixels(evidence, number),
        evidence.listing.paths[number],
        mark.words.get(number, ""),
        group,
    )


def _pixels(evidence: Evidence, number: int) -> NDArray[np.uint8] | None:
    listing, looks = evidence.listing, evidence.looks
    assert looks is not None
    if listing.inputs is not None:
        pixels: NDArray[np.uint8] = listing.inputs[number]
        return pixels
    assert listing.read is not None
    size = looks.sizes[number]
    scale = min(1.0, _SIDE / max(size))
    color = evidence.scan.headers[number].color
    shape = (3 if color else 1, *(max(1, round(side * scale)) for side in size.tolist()))
    preparation = Preparation(listing.kind, shape, "stretch", evidence.config.max_pixels, reduced=True)
    try:
        return listing.medium.decode(listing.read(number), listing.paths[number], preparation)
    except (OSError, DataError):  # gone since it was looked at
        return None
