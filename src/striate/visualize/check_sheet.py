"""A contact sheet of the findings of a data check: a strip of pictures for each finding."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.data_check import DataCheck
from striate.data.audit.evidence import DataEvidence
from striate.data.audit.sample_finding import SampleFinding
from striate.data.dataset import Preparation
from striate.data.media.every_medium import medium_of
from striate.errors import DataError, UsageError
from striate.visualize.canvas import (
    BLUE,
    FAINT,
    INK,
    ORANGE,
    SMALL,
    TEXT,
    VERMILION,
    main_title,
    new_figure,
    save_figure,
    shorten,
    show_image,
)
from striate.wording import several, shorten_middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

COLUMNS = 6
_WIDTH, _TILE, _HEADING = 9.6, 2.35, 0.33
_LETTERS = 23
_COLORS = {"error": VERMILION, "warning": ORANGE, "note": BLUE}


@dataclass(frozen=True)
class SheetTile:
    """One sample of a sheet."""

    image: NDArray[np.uint8] | None
    """(C, H, W) uint8; None where it cannot be read."""
    path: str
    """Stands under the image."""
    words: str
    """Stand under the path."""
    group: int
    """Neighbors with the same number are copies of each other and have frames of one color."""


@dataclass(frozen=True)
class SheetRow:
    """The samples of one finding."""

    code: str
    """Code of the finding."""
    severity: str
    """Severity of the finding."""
    heading: str
    """The finding in words."""
    tiles: tuple[SheetTile, ...]
    """Up to six samples."""


def sheet_figure(rows: Sequence[SheetRow], *, title: str) -> Figure:
    """The rows one under the other, on a white background, so that it is readable on a dark page too."""
    figure = new_figure(_WIDTH, len(rows) * (_TILE + _HEADING) + 0.4)
    main_title(figure, title)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, row in zip(parts, rows, strict=True):
        _draw_row(part, row)
    return figure


def _draw_row(part: SubFigure, row: SheetRow) -> None:
    part.set_facecolor("white")
    letters = int(_WIDTH * 72 / (TEXT * 0.62))
    part.suptitle(
        shorten(f"{row.severity} {row.code}: {row.heading}", letters),
        x=0.01,
        ha="left",
        fontsize=TEXT,
        color=INK,
        fontweight="bold",
        parse_math=False,
    )
    grid = part.subplots(1, COLUMNS, squeeze=False)[0]
    for axes, tile in zip(grid, row.tiles, strict=False):
        _draw_tile(axes, tile, _COLORS[row.severity] if tile.group % 2 == 0 else FAINT)
    for axes in grid[len(row.tiles) :]:
        axes.set_axis_off()


def _draw_tile(axes: Axes, tile: SheetTile, color: str) -> None:
    if tile.image is None:
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_aspect("equal")
        axes.text(0.5, 0.5, "cannot\nbe read", ha="center", va="center", fontsize=SMALL, color=INK)
        axes.set_xticks([])
        axes.set_yticks([])
    else:
        show_image(axes, tile.image)
    axes.set_anchor("N")
    axes.spines[:].set(color=color, linewidth=2.5)
    folder, _, name = tile.path.rpartition("/")
    lines = [shorten_middle(folder, _LETTERS), shorten_middle(name, _LETTERS)]
    lines += textwrap.wrap(tile.words, _LETTERS, max_lines=2, placeholder="…")
    axes.set_xlabel("\n".join(filter(None, lines)), fontsize=SMALL - 1, color=INK, parse_math=False)


_SIDE = 160
_ROWS = 24


def refuse_sheet(kind: str) -> None:
    """Raise UsageError for data that are not images."""
    if not medium_of(kind).pictures:
        raise UsageError(
            "--sheet", f"{medium_of(kind).a}, which has no pictures", "data that are images", "leave out --sheet"
        )


def draw_sheet(check: DataCheck, out: Path) -> Path | None:
    """Draw up to six samples of each finding on single samples; None without such a finding."""
    rows = [row for mark in check.sample_findings if (row := _row(check.evidence, mark)) is not None]
    if not rows:
        return None
    listing = check.evidence.listing
    title = f"{listing.name}: findings of a check of {several(len(listing), 'image')}"
    return save_figure(sheet_figure(rows[:_ROWS], title=title), out, dpi=120)


def _row(evidence: DataEvidence, mark: SampleFinding) -> SheetRow | None:
    if not mark.groups:
        return None
    tiles: list[SheetTile] = []
    for place, group in enumerate(islice(mark.groups, COLUMNS)):
        shown = _representatives(evidence, group, COLUMNS - len(tiles))
        tiles += [_tile(evidence, mark, number, place) for number in shown]
        if len(tiles) >= COLUMNS:
            break
    heading = re.split(r": | \(", mark.finding.measured)[0]
    return SheetRow(mark.finding.code, mark.finding.severity, heading, tuple(tiles))


def _representatives(evidence: DataEvidence, group: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The samples that show why a group is one: the first of each split and label, or two copies."""
    if len(group) == 1:
        return group
    first: dict[tuple[str, str], int] = {}
    for number in group:
        first.setdefault((evidence.splits.get(number, ""), evidence.listing.labels[number]), number)
    chosen = sorted(first.values()) if len(first) > 1 else list(group[:2])
    return tuple(chosen[:most]) if most >= 2 else ()


def _tile(evidence: DataEvidence, mark: SampleFinding, number: int, group: int) -> SheetTile:
    return SheetTile(
        None if number in evidence.unreadable else _pixels(evidence, number),
        evidence.listing.paths[number],
        mark.words.get(number, ""),
        group,
    )


def _pixels(evidence: DataEvidence, number: int) -> NDArray[np.uint8] | None:
    listing, statistics = evidence.listing, evidence.image_statistics
    assert statistics is not None
    if listing.inputs is not None:
        pixels: NDArray[np.uint8] = listing.inputs[number]
        return pixels
    assert listing.read is not None
    size = statistics.sizes[number]
    scale = min(1.0, _SIDE / max(size))
    color = evidence.scan.headers[number].color
    shape = (3 if color else 1, *(max(1, round(side * scale)) for side in size.tolist()))
    preparation = Preparation(listing.kind, shape, "stretch", evidence.config.max_pixels, reduced=True)
    try:
        return listing.medium.decode(listing.read(number), listing.paths[number], preparation)
    except (OSError, DataError):  # removed since the check
        return None
