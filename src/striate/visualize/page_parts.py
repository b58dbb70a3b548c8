"""The parts of pages: pictures, tables and sections, as plain records."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PictureKind = Literal["curves", "confusion", "scatter", "samples", "baselines", "signal", "filters"]


@dataclass(frozen=True)
class SampleTile:
    """One sample of a gallery."""

    png: str
    """The image as a PNG in base64."""
    width: int
    """Width in pixels on the page."""
    height: int
    """Height in pixels on the page."""
    enlarged: bool
    """Whether the image has fewer pixels than the page shows."""
    name: str
    """The sample by name."""
    prediction: str
    """The prediction in words."""
    truth: str
    """The label in words."""
    right: bool
    """Whether both are the same."""
    next: str = ""
    """The second most probable class in words, where it matters; else empty."""


@dataclass(frozen=True)
class Picture:
    """A PNG with its title and caption."""

    title: str
    """Title of the picture."""
    caption: str
    """What it shows, in sentences."""
    path: Path
    """The PNG."""
    kind: PictureKind
    """Decides the section of the page, and which numbers stand with it."""
    panels: tuple[str, ...] = ()
    """The same as SVG in the page's colors, which a page shows instead of the PNG; empty: it shows the PNG."""
    tiles: tuple[SampleTile, ...] = ()
    """The samples one by one, which a page shows instead of the PNG; empty: it shows the PNG."""


@dataclass(frozen=True)
class Table:
    """A table of texts and numbers."""

    caption: str
    """What it shows."""
    columns: tuple[str, ...]
    """The headings."""
    rows: tuple[tuple[str | int | float | None, ...], ...]
    """A cell for each column; the first cell names the row."""
    shades: tuple[tuple[int, ...], ...] = ()
    """The darkness of each cell of a matrix, from 0 to 10, without the names of the rows; empty for other tables."""

    @property
    def texts(self) -> tuple[bool, ...]:
        """For each column, whether most of its cells are words, which are left-aligned; none of a matrix."""
        if self.shades or not self.rows:
            return (False,) * len(self.columns)
        words = [[isinstance(cell, str) and cell[:1].isalpha() for cell in row] for row in self.rows]
        return tuple(2 * sum(column) > len(column) for column in zip(*words, strict=True))


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading."""

    title: str
    """The heading."""
    sentences: tuple[str, ...] = ()
    """A paragraph each."""
    tables: tuple[Table, ...] = ()
    """Shown below the sentences."""
    charts: tuple[str, ...] = ()
    """SVG."""
    caption: str = ""
    """Of the charts."""
    behind: tuple[Table, ...] = ()
    """The numbers of the charts, as tables."""
