"""HTML of records for notebooks, readable in light and dark ones; everything is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from striate.errors import printable

MOST_ROWS = 200
"""Rows of a table at most; the number of further rows is shown."""

# Notebooks set the colors of text and background; gray lines are visible on all.
_LINE = "1px solid rgba(128,128,128,.4)"
_CELL = f"padding:.15em .6em;border-bottom:{_LINE};text-align:{{}};color:inherit;background:none"
_EDGES = {"error": "#d1453b", "warning": "#c98a1b", "note": "#4a90c4"}

Cell = str | int | float | None


def page(title: str, *parts: str) -> str:
    """A record: its title, and parts that are already HTML."""
    head = f'<div style="font-weight:bold;margin-bottom:.3em">{text(title)}</div>'
    return f'<div class="striate" style="max-width:60em;line-height:1.4">{head}{"".join(parts)}</div>'


def text(words: object) -> str:
    """Text as HTML; markup and control characters in it are shown."""
    return escape(printable(str(words)))


def line(words: object) -> str:
    """One paragraph."""
    return f'<div style="margin:.25em 0">{text(words)}</div>'


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "") -> str:
    """A table of texts and numbers, with names in the first column; a long one scrolls."""
    every = list(rows)
    head = "".join(f'<th scope="col" style="{_side(k)};font-weight:bold">{text(c)}</th>' for k, c in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f'<td style="{_side(k)}">{text(_written(cell))}</td>' for k, cell in enumerate(row)) + "</tr>"
        for row in every[:MOST_ROWS]
    )
    more = len(every) - MOST_ROWS
    left_out = f"<div>… and {more:,} more {'row' if more == 1 else 'rows'}</div>" if more > 0 else ""
    name = f'<caption style="text-align:left;color:inherit;opacity:.8">{text(caption)}</caption>' if caption else ""
    return (
        '<div style="max-height:26em;overflow:auto;margin:.4em 0"><table style="border-collapse:collapse;'
        f'font-variant-numeric:tabular-nums">{name}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{left_out}'
    )


def finding(severity: str, *sentences: str, remedy: str = "", code: str = "") -> str:
    """A finding: its severity, what was found, and what to do."""
    edge = f"border-left:.3em solid {_EDGES.get(severity, 'gray')};padding:.1em .7em;margin:.4em 0"
    body = text(" ".join(filter(None, sentences)))
    fix = f"<br><b>{text(remedy)}</b>" if remedy else ""
    name = f' <span style="opacity:.7">{text(code)}</span>' if code else ""
    return f'<div style="{edge}"><b>{text(severity)}</b> {body}{fix}{name}</div>'


def items(lines: Iterable[object]) -> str:
    """A list; empty for no lines."""
    listed = "".join(f"<li>{text(words)}</li>" for words in lines)
    return f'<ul style="margin:.25em 0">{listed}</ul>' if listed else ""


def image(png: str, words: str) -> str:
    """A PNG in base64, on one line with its neighbors; `words` describe it."""
    return (
        f'<img src="data:image/png;base64,{text(png)}" alt="{text(words)}" title="{text(words)}" style="margin:.3em">'
    )


def _side(column: int) -> str:
    return _CELL.format("right" if column else "left")


def _written(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return str(cell)
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}"
