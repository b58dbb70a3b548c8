"""Rows and paragraphs laid out for the terminal, in columns of a given width; free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from striate.errors import one_line
from striate.wording import shorten_path

WIDTH = 80
_NAME = 14
"""Least width of the first column where the table is too wide."""


def laid_out(
    rows: Sequence[Sequence[str]], sides: Sequence[str], width: int = WIDTH, gaps: Sequence[int] | None = None
) -> str:
    """Rows of cells as columns with a rule under the first row; `sides` has `left` or `right` for each column.

    If the table is wider than `width`, the first column becomes narrower: its cells, paths of modules, are shortened.
    """
    gaps = gaps or (2,) * (len(sides) - 1)
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(sides))]
    widths[0] = min(widths[0], max(_NAME, width - sum(widths[1:]) - sum(gaps)))
    lines = []
    for row in rows:
        cells = [shorten_path(row[0], widths[0]), *row[1:]]
        placed = [c.ljust(w) if side == "left" else c.rjust(w) for c, w, side in zip(cells, widths, sides, strict=True)]
        lines.append("".join(c + " " * gap for c, gap in zip(placed, (*gaps, 0), strict=True)).rstrip())
    return "\n".join([lines[0], "─" * (sum(widths) + sum(gaps)), *lines[1:]])


def hanging(name: str, text: str, indent: int, width: int) -> list[str]:
    """A paragraph of at most `width` columns: its name, and to the right of it the text, indented by `indent`."""
    # A percent sign stays with its number.
    lines = wrap(
        one_line(text).replace(" %", "\u00a0%"),
        width,
        initial_indent=name.ljust(indent),
        subsequent_indent=" " * indent,
        break_long_words=True,
        break_on_hyphens=False,
    )
    return [line.replace("\u00a0", " ") for line in lines]
