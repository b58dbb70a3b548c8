"""What pages are made of: pictures, tables and sections, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PictureKind = Literal["curves", "confusion", "scatter", "samples", "baselines", "signal", "filters"]


@dataclass(frozen=True)
class SampleTile:
    """One sample of a gallery: its image as a PNG in base64, shown at `width` × `height`, `enlarged` from fewer pixels;
    its `name`, and in words the prediction, the truth, and where it matters the next probable class."""

    png: str
    width: int
    height: int
    enlarged: bool
    name: str
    answer: str
    truth: str
    right: bool
    next: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with its title and caption; `kind` decides its section and which numbers go with it.

    A page shows instead of the PNG: `panels`, the same as SVG in the page's colors, or `tiles`, the samples one by one.
    """

    title: str
    caption: str
    path: Path
    kind: PictureKind
    panels: tuple[str, ...] = ()
    tiles: tuple[SampleTile, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers; each row has a cell for each of `columns`, the first names the row. `shades`: how
    dark each cell of a matrix is, from 0 to 10, without the names of the rows."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    shades: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading of its own: sentences, tables, charts (SVG) with their caption, and the tables
    `behind` them."""

    title: str
    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    charts: tuple[str, ...] = ()
    caption: str = ""
    behind: tuple[Table, ...] = ()
