"""Boxes in a manifest: path,x_min,y_min,x_max,y_max,label[,angle][,split][,group], a row for each box; fields are empty
for an image without boxes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from striate.data.box_records import Box, ImageBoxes
from striate.data.listing import Listing
from striate.data.sources.boxes.make_listing import box_listing
from striate.data.sources.manifest import (
    LABEL_NAMES,
    PATH_NAMES,
    TableRow,
    at_line,
    placed_rows,
    table_columns,
    table_rows,
)
from striate.data.sources.other_layouts import table_beside
from striate.data.sources.source_names import check_names, names_remedy
from striate.data.sources.tree import Tree, check_size, read_file
from striate.errors import DataError
from striate.wording import listed

EDGES = ("x_min", "y_min", "x_max", "y_max")
_KNOWN = ("path", *EDGES, "label", "angle", "split", "group")
_SPELLED = {name.replace("_", ""): name for name in EDGES}
_CORNERS = dict(zip(("x1", "y1", "x2", "y2"), EDGES, strict=True))
_HEADER = "path,x_min,y_min,x_max,y_max,label, optionally with angle, split and group"


def holds_box_rows(path: Path, called: Mapping[str, str]) -> bool:
    """Whether the header of the table has the edges of boxes. Raises DataError if it has only two or three of them."""
    names = list(table_columns(path, called))
    columns = _columns(names, {})
    missing = [name for name in EDGES if name not in columns]
    if missing and len(missing) <= 2:
        got = f"the header {','.join(names)[:200]!r}, without {listed(missing)}"
        remedy = f"add the column{'s' * (len(missing) > 1)} {listed(missing)}; --task classify ignores the boxes"
        raise DataError(f"manifest {path}, line 1", got, _HEADER, remedy)
    return not missing


def box_table(tree: Tree, *, requested: bool) -> Path | None:
    """The table beside the images that has boxes (`table_beside`)."""
    return table_beside(tree, lambda table: holds_box_rows(table, {}), requested=requested)


def _columns(names: list[str], called: Mapping[str, str]) -> dict[str, int]:
    read_as = {given.lower(): name for name, given in called.items()}
    lower = [name.strip().lower() for name in names]
    known = {read_as.get(name, name) for name in lower}
    corners = {*_CORNERS, "label"} <= known and "x3" not in known  # else they are points
    spelled = _SPELLED | (_CORNERS if corners else {})
    return {read_as.get(name, spelled.get(name, name)): place for place, name in enumerate(lower)}


def list_box_table(path: Path, called: Mapping[str, str]) -> Listing:
    """The images of the table with their boxes; paths are relative to its folder and stay inside it. Raises DataError
    with the line, ConfigError for a missing column."""
    root = Path(os.path.realpath(path.parent))
    boxes: dict[str, list[Box]] = {}
    placed: dict[str, TableRow] = {}
    check_size(path.stat().st_size, f"manifest {path}")
    with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
        rows = table_rows(path, file)
        line, header = next(rows)
        check_names(called, [field.strip().lower() for field in header], _KNOWN)
        columns = _columns(header, called)
        if len(columns) != len(header) or not {"path", "label"} <= columns.keys():
            raise _other_header(path, line, header, columns)
        for row, fields in placed_rows(path, rows, columns):
            placed[row.path] = row
            box = _box(path, row.line, fields)
            boxes.setdefault(row.path, []).extend([box] if box else [])
    tree = Tree(str(path), path.stem, tuple(sorted(boxes)), (), (), lambda name: read_file(root / name))
    found = {name: (ImageBoxes(tuple(some), str(path)), placed[name].split) for name, some in boxes.items()}
    listing = box_listing(tree, found)
    grouped = tuple(placed[name].group for name in listing.paths)
    others = [name for name in columns if name not in _KNOWN]
    notes = (f"Ignored columns of the manifest: {', '.join(others)}.",) if others else ()
    return replace(listing, notes=(*listing.notes, *notes), groups=grouped if any(grouped) else ())


def _other_header(path: Path, line: int, fields: list[str], columns: Mapping[str, int]) -> DataError:
    """The error for a header without path or label; guesses which columns these are."""
    guess = {
        name: next((known for known in usual if known in columns), "")
        for name, usual in (("path", sorted(PATH_NAMES)), ("label", LABEL_NAMES))
        if name not in columns
    }
    got = f"the header {','.join(fields)[:200]!r}"
    remedy: str = "begin the file with the line " + ",".join(_KNOWN[:6])
    if guess and all(guess.values()):
        remedy = names_remedy(guess, "if these are the columns: ")
    return DataError(f"manifest {path}, line {line}", got, _HEADER, remedy)


def _box(path: Path, line: int, row: Mapping[str, str]) -> Box | None:
    fields = [row[name] for name in EDGES]
    if not any(fields) and not row["label"]:
        return None
    try:
        x0, y0, x1, y1 = (float(field) for field in fields)
        angle = float(row["angle"] or 0) if "angle" in row else None
        finite = all(map(math.isfinite, (x0, y0, x1, y1, angle or 0)))
    except ValueError:
        finite = False
    if not finite:
        shown = ", ".join(f"{name} {row[name] or 'empty'}" for name in (*EDGES, "angle") if name in row)
        remedy = "fill them in, or leave all of them and the label empty for an image without objects"
        raise at_line(path, line, shown, "finite numbers", remedy)
    if not row["label"]:
        raise at_line(path, line, "a box without a label", "the name of its class", "fill it in")
    return Box((x0, y0, x1, y1), row["label"], False, angle, line)
