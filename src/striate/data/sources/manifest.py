"""Manifests: a .csv with the columns path,label[,split][,group] and a row for each sample, separated by commas,
semicolons or tabs. A column `labels` in place of `label` has any number of labels, `cat|dog`, or none.

`data.names` names columns that have other names. Without it, the error for such a file guesses them in its remedy.
"""

from __future__ import annotations

import csv
import json
import ntpath
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np

from striate.data.annotations.inputs_as_targets import CLASS, InputsAsTargets
from striate.data.annotations.label_sets import (
    BETWEEN,
    LabelSets,
    are_label_sets,
    separator_of,
    split_labels,
    with_label_sets,
)
from striate.data.annotations.points import point_columns, visible_points
from striate.data.annotations.target_columns import MISSING, TargetColumns
from striate.data.listing import SPLIT_NAMES, Listing, as_number, class_numbers, order_classes
from striate.data.media.clip.clip_files import read_folder
from striate.data.media.clip.clip_medium import Clips
from striate.data.media.every_medium import is_sample, medium_of_files
from striate.data.sources.other_layouts import by_hand_in_table, of_another_medium, other_task
from striate.data.sources.source_names import check_names, names_remedy
from striate.data.sources.tree import check_size, read_file
from striate.errors import DataError, StriateError, pasted
from striate.records import Remedy
from striate.wording import listed, several

_NAMES = ("path", "label", "labels", "split", "group")
_COLUMNS = {
    **{"labels": "path,labels", "caption": "path,caption", "point": "path,x1,y1,x2,y2"},
    "box": "path,x_min,y_min,x_max,y_max,label",
}
"""The columns of a manifest, by kind of annotation; path and label for the others."""
MAX_ROWS = 10_000_000
_LONGEST_LINE = 1 << 20
LABEL_NAMES = ("label", "class", "category", "species", "target", "kind", "type", "breed", "diagnosis", "name", "y")
"""Usual names of a column of labels, the likelier first."""
PATH_NAMES = frozenset(
    ("path", "file", "filename", "file_name", "image", "image_path", "filepath", "img", "picture", "photo")
)
"""Usual names of a column of paths."""


def _expected(annotation: str | None) -> str:
    """The header of a manifest for this kind of annotation."""
    columns = _COLUMNS.get(annotation or "", "path,label")
    return f"{columns}, and if there are any split and group: {columns},split,group"


def _begin(annotation: str | None) -> str:
    """The remedy for a file without such a header."""
    columns = _COLUMNS.get(annotation or "", "path,label")
    return f"begin the file with the line {columns} or {columns},split or {columns},split,group"


class TableRow(NamedTuple):
    """A row of a manifest; `others`: its further fields."""

    path: str
    line: int
    label: str
    split: str | None
    group: str | None
    others: tuple[str, ...]


def list_manifest(path: Path, annotation: str | None, called: Mapping[str, str] | None = None) -> Listing:
    """The rows of a manifest. Paths are relative to its folder and stay inside it.

    `called`: the names in the file of the columns that are read. Labels are numbers if `annotation` is "number", or if
    all are numbers and some have a fraction; else class names. Raises DataError with the line, also where most labels
    are such numbers and the others are NaN, Inf or words for an unknown value.
    """
    root = Path(os.path.realpath(path.parent))
    rows, others, sets = _parse(path, root, called or {}, annotation)
    backslashes = any("\\" in row.path for row in rows)
    clips = bool(rows) and all(_is_folder(root / row.path) for row in rows)
    rows = [check_path(path, root, row, folders=clips) for row in rows]
    rows.sort()
    if error := of_another_medium(path, [row.path for row in rows]):
        raise error
    paths = tuple(row.path for row in rows)
    if annotation == InputsAsTargets.name:
        return _without_labels(path, root, rows, others, _notes(others, called or {}, backslashes))
    unnamed = annotation != TargetColumns.name and not any(row.label for row in rows)
    points = point_columns(others) if annotation == "point" or unnamed else {}
    if points:
        _refuse_half_points(path, others)
        further = [name for name in others if name not in {column for pair in points.values() for column in pair}]
        return _of_points(path, root, rows, others, points, _notes(further, called or {}, backslashes))
    labels = tuple(row.label for row in rows)
    numbers = [as_number(label) for label in labels]
    is_number = not sets and (
        annotation == "number"
        or (
            annotation is None
            and all(n is not None for n in numbers)
            and any(n is not None and n != int(n) for n in numbers)
        )
    )
    if annotation is None and not sets and not is_number:
        _refuse_unknown_numbers(path, rows, numbers)
    classes = () if is_number else order_classes(labels)
    listing = Listing(
        name=path.stem,
        source=str(path),
        kind=Clips.views["rgb"] if clips else medium_of_files(paths).name,
        annotation="number" if is_number else "class",
        paths=paths,
        labels=labels,
        given=tuple(row.split for row in rows),
        targets=_numbers(path, rows, numbers) if is_number else class_numbers(labels, classes),
        classes=classes,
        read=lambda number: (read_folder if clips else read_file)(root / paths[number]),
        target_names=("label",) if is_number else (),
        notes=_notes([] if annotation == TargetColumns.name else others, called or {}, backslashes),
        groups=tuple(row.group for row in rows) if any(row.group for row in rows) else (),
        columns={name: tuple(row.others[place] for row in rows) for place, name in enumerate(others)},
    )
    if not sets and (annotation is not None or not are_label_sets(classes)):
        return listing
    between = separator_of(labels) if sets else BETWEEN
    if not sets or between != BETWEEN:
        note = f"Labels: several per sample, separated by {between}"
        note += "." if sets else "; --task classify makes each set one class."
        listing = replace(listing, notes=(*listing.notes, note))
    return with_label_sets(listing, [split_labels(label, between) for label in labels])


def _without_labels(path: Path, root: Path, rows: list[TableRow], others: list[str], notes: tuple[str, ...]) -> Listing:
    """The files as samples without targets, one for each, however many rows it has, as of captions or boxes. Labels
    become a column if all rows have one; columns whose values differ between the rows of a file are left out."""
    files: dict[str, list[TableRow]] = {}
    for row in rows:
        files.setdefault(row.path, []).append(row)
    for own in files.values():
        if len({(row.split, row.group) for row in own}) > 1:
            raise _in_two_places(path, max(own, key=lambda row: row.line))
    paths, first = tuple(files), [own[0] for own in files.values()]
    values = {name: [[row.others[place] for row in own] for own in files.values()] for place, name in enumerate(others)}
    if all(row.label for row in rows):
        values[CLASS] = [[row.label for row in own] for own in files.values()]
    same = {name: found for name, found in values.items() if all(len(set(own)) == 1 for own in found)}
    return Listing(
        name=path.stem,
        source=str(path),
        kind=medium_of_files(paths).name,
        annotation=InputsAsTargets.name,
        paths=paths,
        labels=("",) * len(paths),
        given=tuple(row.split for row in first),
        targets=None,
        read=lambda number: read_file(root / paths[number]),
        notes=notes,
        groups=tuple(row.group for row in first) if any(row.group for row in first) else (),
        columns={name: tuple(own[0] for own in found) for name, found in same.items()},
    )


def _refuse_half_points(path: Path, columns: Sequence[str]) -> None:
    """Raise DataError for a column of x without its column of y, or the reverse, beside the columns of points."""
    for column in columns:
        if match := re.fullmatch(r"(.+[_. ])([xy])", column) or re.fullmatch(r"()([xy])(_?\d+)", column):
            before, axis, *after = match.groups()
            other = f"{before}{'y' if axis == 'x' else 'x'}{''.join(after)}"
            if other not in columns:
                raise DataError(
                    f"manifest {path}",
                    f"the column {column} without a column {other}",
                    "two columns for each point",
                    f"add the column {other}, or give {column} another name if it is not a coordinate",
                )


def _of_points(
    path: Path,
    root: Path,
    rows: list[TableRow],
    others: list[str],
    points: Mapping[str, tuple[str, str]],
    notes: tuple[str, ...],
) -> Listing:
    """The rows as samples with points; other columns are for slices."""
    places = [others.index(column) for pair in points.values() for column in pair]
    values = [_coordinates(path, row, [row.others[place] for place in places], list(points)) for row in rows]
    paths = tuple(row.path for row in rows)
    return Listing(
        name=path.stem,
        source=str(path),
        kind=medium_of_files(paths).name,
        annotation="point",
        paths=paths,
        labels=tuple(f"{sum(v is not None for v in row) // 2} of {several(len(points), 'point')}" for row in values),
        given=tuple(row.split for row in rows),
        targets=visible_points(points, values),
        read=lambda number: read_file(root / paths[number]),
        target_names=tuple(points),
        notes=notes,
        groups=tuple(row.group for row in rows) if any(row.group for row in rows) else (),
        columns={
            name: tuple(row.others[place] for row in rows) for place, name in enumerate(others) if place not in places
        },
    )


def _coordinates(path: Path, row: TableRow, texts: list[str], names: list[str]) -> list[float | None]:
    """Two numbers for each point, None where it is not visible. Raises DataError with the line."""
    values: list[float | None] = []
    for place, name in enumerate(names):
        pair = texts[2 * place : 2 * place + 2]
        empty = [not text or text.lower() == "nan" for text in pair]
        numbers = [None if gone else as_number(text) for text, gone in zip(pair, empty, strict=True)]
        if empty[0] != empty[1] or (not empty[0] and None in numbers):
            got = f"the point {name} of {row.path!r} at {','.join(pair)!r}"
            remedy = "correct it, or leave both fields empty if the point is not visible"
            raise at_line(path, row.line, got, "two finite numbers, x to the right and y down, in pixels", remedy)
        values += numbers
    return values


def _notes(others: list[str], called: Mapping[str, str], backslashes: bool) -> tuple[str, ...]:
    points = point_columns(others)
    notes = [f"Columns: {', '.join(f'{given} as {name}' for name, given in called.items())}."] if called else []
    if others:
        notes.append(f"Columns of the manifest used only for slices of the evaluation: {listed(others, 10)}.")
    if points:
        notes.append(f"The column label is learned; to learn the points ({listed(list(points), 4)}): --task keypoints.")
    if backslashes:
        notes.append("Backslashes in the paths of the manifest are read as slashes, as on Windows.")
    return tuple(notes)


def _refuse_unknown_numbers(path: Path, rows: list[TableRow], numbers: list[float | None]) -> None:
    """Raise DataError if most labels are numbers, one of them has a fraction, and all others are words for an unknown
    value: read as class names, they would turn a quantity into classes."""
    known = [number for number in numbers if number is not None]
    odd = [row for row, number in zip(rows, numbers, strict=True) if number is None]
    if 2 * len(known) <= len(rows) or all(number == int(number) for number in known):
        return
    if not all(row.label.lower() in MISSING or _is_float(row.label) for row in odd):
        return
    first = min(odd, key=lambda row: row.line)
    more = f", and {len(odd) - 1:,} more such" if odd[1:] else ""
    got = f"the label {first.label!r}{more}, beside {several(len(known), 'number')}"
    remedy = (
        "correct it or leave the line out, and: --task regress; or, if labels are names of classes: --task classify"
    )
    raise at_line(path, first.line, got, "finite numbers alone, or names of classes", remedy)


def _is_float(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def _numbers(path: Path, rows: list[TableRow], numbers: list[float | None]) -> np.ndarray:
    for row, number in zip(rows, numbers, strict=True):
        if number is None:
            raise at_line(
                path, row.line, f"the label {row.label!r}", "a finite number", "correct it, or --task classify"
            )
    return np.array(numbers, dtype=np.float32)[:, None]


def at_line(path: Path, line: int, got: str, expected: str, remedy: str) -> DataError:
    """The error for a line of a manifest."""
    return DataError(f"manifest {path}, line {line}", got, expected, remedy)


def _parse(
    path: Path, root: Path, called: Mapping[str, str], annotation: str | None
) -> tuple[list[TableRow], list[str], bool]:
    """The rows, the names of the further columns, and whether labels come from the column `labels`. Points, and samples
    without targets, need no label."""
    rows: list[TableRow] = []
    sets = False
    columns: dict[str, int] | None = None
    named: dict[str, int] = {}
    try:
        check_size(path.stat().st_size, f"manifest {path}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, fields in table_rows(path, file):
                if columns is None:
                    named = columns = _header(path, line, fields, called)
                    sets = "labels" in columns and ("label" not in columns or annotation == LabelSets.name)
                    sets = sets and annotation != TargetColumns.name
                    columns = _with_sets(columns) if sets else columns
                elif "path" not in columns or not (
                    "label" in columns
                    or annotation in (TargetColumns.name, InputsAsTargets.name)
                    or point_columns(list(columns))
                ):
                    raise _other_columns(path, root, named, fields, annotation)
                elif len(rows) < MAX_ROWS:
                    labeled = (
                        annotation not in ("point", TargetColumns.name, InputsAsTargets.name)
                        and "label" in columns
                        and not sets
                    )
                    rows.append(_row(path, line, fields, columns, labeled=labeled))
                else:
                    raise at_line(
                        path, line, "one more row", f"at most {MAX_ROWS:,} rows", "divide it into several sets"
                    )
    except UnicodeDecodeError as error:
        raise DataError(
            f"manifest {path}", f"bytes that are not UTF-8 ({error})", "a text file in UTF-8", "save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"manifest {path}", str(error), "a file that can be read", "check the file") from None
    if columns is None or not rows:
        raise DataError(f"manifest {path}", "no rows", "a header and at least one row", _begin(annotation))
    return rows, _further(columns), sets


def _with_sets(columns: dict[str, int]) -> dict[str, int]:
    """The places of columns, with the column `labels` as the label."""
    names = {"labels": "label", "label": "label (not read)"}
    return {names.get(name, name): place for name, place in columns.items()}


def _further(columns: dict[str, int]) -> list[str]:
    return [name for name in columns if name not in ("path", "label", "split", "group")]


def table_columns(path: Path, called: Mapping[str, str]) -> dict[str, int]:
    """The place of each column of the header, by the name under which it is read, in lower case; empty for a file that
    cannot be read, since reading its rows raises the error."""
    try:
        with _opened(path) as file:
            first = file.readline(1 << 16)
    except OSError:
        return {}
    names = next(csv.reader([first], delimiter=max(",;\t", key=first.count)), [])
    read_as = {given.lower(): name for name, given in called.items()}
    lower = [name.strip().lower() for name in names]
    return {read_as.get(name, name): place for place, name in enumerate(lower)}


def table_rows(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row that is not empty, with the number of its last line, read one at a time."""
    first = next((line for line in _lines(path, file) if line.strip()), "")
    file.seek(0)
    reader = csv.reader(_lines(path, file), delimiter=max(",;\t", key=first.count))
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        expected = "fields separated by commas, semicolons or tabs"
        raise at_line(path, reader.line_num, f"not CSV ({error})", expected, "fix the line") from None


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            expected = f"lines of at most {_LONGEST_LINE:,} characters"
            raise at_line(path, number, "a longer line", expected, "write only path,label,split,group")
        yield line


def _header(path: Path, line: int, fields: list[str], called: Mapping[str, str]) -> dict[str, int]:
    """The place of each column, by the name under which it is read, else by its own in lower case. Raises DataError,
    and ConfigError for a name in `called` that the file lacks."""
    names = [field.strip().lower() for field in fields]
    called = {name: given.lower() for name, given in called.items()}
    check_names(called, names, _NAMES)
    read_as = {given: name for name, given in called.items()}
    names = [read_as.get(name, name if name not in called else f"{name} (not read)") for name in names]
    columns = {name: position for position, name in enumerate(names)}
    if len(columns) != len(names):
        twice = next(name for place, name in enumerate(names) if name in names[:place])
        got = f"the column {twice or 'without a name'} twice in the header {','.join(fields)[:200]!r}"
        raise at_line(path, line, got, "a name for each column, and each name once", "rename one of them, or remove it")
    return columns


def _other_columns(
    path: Path, root: Path, columns: Mapping[str, int], fields: list[str], annotation: str | None
) -> StriateError:
    """The error for a header without path or label: says what the columns are, or guesses which to read."""
    names, expected = list(columns), _expected(annotation)
    got, where = f"the columns {listed(names, 12)}", f"manifest {path}"
    if any(map(is_sample, names)):
        got = f"no header: the first line is the row {listed(names, 12)}"
        return DataError(where, got, expected, _begin(annotation))
    if not point_columns(names) and (what := other_task(names)) and what != "captions":
        return DataError(where, f"{got}: {what}", expected, by_hand_in_table(what, str(path)))
    values = dict(zip(names, fields, strict=False))
    files = [name for name in names if _is_file(root, values.get(name, "").strip())]
    found = next(iter([name for name in ("path",) if name in names] or files), None)
    found = found or next((name for name in names if name in PATH_NAMES), None)
    rest = [name for name in names if name != found and name not in ("split", "group", "caption")]
    label = next((name for name in ("labels", *LABEL_NAMES) if name in rest), next(iter(rest), None))
    if found == "path" and label is None and "caption" in names:
        words = "to learn the captions: --task caption; else add a column label"
        return DataError(where, got, expected, Remedy(words, settings={"task.name": "caption"}))
    if "caption" in names and found not in (None, "path"):
        return DataError(where, got, "a column path besides caption", names_remedy({"path": found}))
    if found is None and (remedy := _as_arrays(path, names, fields)):
        return DataError(where, f"{got}: a table of features, none of them a path", expected, remedy)
    if found is None or label is None or annotation in ("box", "point"):
        return DataError(where, got, expected, _begin(annotation))
    if point_columns(names):
        return DataError(where, got, "a column path besides the columns of points", names_remedy({"path": found}))
    marks = [name for name in rest if values.get(name, "").strip() in ("0", "1", "0.0", "1.0")]
    if len(marks) > 1 and marks == rest:
        return DataError(
            where,
            f"{got}: a column of 0 and 1 for each class",
            expected,
            f"write the names of the columns that are 1 into one column: label ({marks[0]}), or labels"
            f" ({marks[0]}|{marks[1]}) if several can be 1",
        )
    own = annotation if annotation in ("labels", "caption") else "label"
    guess = {name: given for name, given in (("path", found), (own, label)) if given not in (name, "labels")}
    return DataError(where, got, expected, names_remedy(guess, "if these are the columns: "))


def _as_arrays(path: Path, names: list[str], fields: list[str]) -> str:
    """The remedy for a table of features: the command that saves its numbers as an .npz. Empty where a row names files,
    or has no number besides the label, which is in the column of a usual name or the last."""
    target = next((names.index(name) for name in LABEL_NAMES if name in names), len(names) - 1)
    targets = _one_hot_columns(path) if target == len(names) - 1 else range(0)
    targets = targets or range(target, target + 1)
    features = [place for place, field in enumerate(fields) if as_number(field) is not None and place not in targets]
    if not features or any(map(is_sample, fields)) or target >= len(fields):
        return ""
    with _opened(path) as file:
        separator = _separator(file)
    delimiter = "" if separator == "," else f", delimiter={json.dumps(separator)}"
    label = f"float(row[{target}])" if as_number(fields[target]) and "." in fields[target] else f"row[{target}]"
    if len(targets) > 1:
        marks = f"[float(one) for one in row[{targets.start}:{targets.stop}]]"
        label = f"{json.dumps([names[k] for k in targets])}[{marks}.index(1)]"
    arrays = path.with_suffix(".npz")
    code = (
        f'import csv, numpy; rows = csv.reader(open({json.dumps(str(path))}, encoding="utf-8-sig"){delimiter});'
        f" rows = [row for row in rows if row][1:];"
        f" numpy.savez({json.dumps(str(arrays))}, x=[[float(row[k]) for k in {features}] for row in rows],"
        f" y=[{label} for row in rows])"
    )
    left = [name for place, name in enumerate(names) if place not in features and place not in targets]
    without = f", without {listed(left, 3)}" if left else ""
    return f"save its numbers as arrays{without}: python -c {pasted(code)} && striate train {pasted(arrays)}"


def _opened(path: Path) -> IO[str]:
    return path.open(encoding="utf-8-sig", errors="replace", newline="")


def _separator(table: IO[str]) -> str:
    """The separator of columns, by the first line, which is read."""
    return max(",;\t", key=table.readline(1 << 16).count)


_MOST_ROWS = 100_000
"""Rows of a table that are read to recognize one-hot columns."""


def _one_hot_columns(path: Path) -> range:
    """The last columns of a table, two or more, that have one 1 in each row and else 0; empty where there are none."""
    rows: list[list[str]] = []
    with _opened(path) as file, suppress(csv.Error):
        rows += (row for row in islice(csv.reader(file, delimiter=_separator(file)), _MOST_ROWS) if row)
    width = min(map(len, rows), default=0)
    sums = [0.0] * len(rows)
    for start in range(width - 1, 0, -1):
        column = [as_number(row[start]) for row in rows]
        if any(value not in (0, 1) for value in column):
            break
        sums = [total + (value or 0) for total, value in zip(sums, column, strict=True)]
        if width - start > 1 and set(sums) == {1.0}:
            return range(start, width)
    return range(0)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # too long, or not a path
        return False


def _is_file(root: Path, name: str) -> bool:
    with suppress(OSError, ValueError):
        return bool(name) and (root / name.replace("\\", "/")).is_file()
    return False


def _row(
    path: Path, line: int, fields: list[str], columns: dict[str, int], *, labeled: bool, of: str = "field"
) -> TableRow:
    if len(fields) != len(columns):
        raise at_line(
            path,
            line,
            f"{several(len(fields), 'field')}",
            f"{len(columns)}, as in the header",
            _complete_row(fields, len(columns), of),
        )
    file, label = fields[columns["path"]].strip(), fields[columns["label"]].strip() if "label" in columns else ""
    if labeled and not label:
        raise at_line(
            path, line, f"no label for {file!r}", "a class name or a number", "fill it in, or leave the line out"
        )
    word = fields[columns["split"]].strip().lower() if "split" in columns else ""
    if word and word not in SPLIT_NAMES:
        raise at_line(path, line, f"the split {word!r}", "train, val, test or nothing", "correct the word")
    group = fields[columns["group"]].strip() if "group" in columns else ""
    others = tuple(fields[columns[name]].strip() for name in _further(columns))
    return TableRow(file, line, label, SPLIT_NAMES.get(word), group or None, others)


def _complete_row(fields: list[str], wanted: int, of: str) -> str:
    """The remedy for a row with too few or too many fields."""
    if any("\n" in field for field in fields):  # it takes up the rows that follow
        return "close the double quote of the field that extends over several lines"
    if len(fields) < wanted:
        return "add the missing fields (an empty one needs its comma), or leave the row out"
    return f"put a {of} with a comma in double quotes"


def placed_rows(
    path: Path, rows: Iterator[tuple[int, list[str]]], columns: dict[str, int], of: str = "field"
) -> Iterator[tuple[TableRow, dict[str, str]]]:
    """The rows of a table in which an image may have several, and the fields of each row by column.

    Paths are checked against the folder of the table (`check_path`). `of`: the noun for a field with a comma, in
    messages. Raises DataError with the line, also where an image is in two splits or groups."""
    root = Path(os.path.realpath(path.parent))
    places: dict[str, tuple[str | None, str | None]] = {}
    for line, fields in rows:
        row = check_path(path, root, _row(path, line, fields, columns, labeled=False, of=of))
        place = row.split, row.group
        if places.setdefault(row.path, place) != place:
            raise _in_two_places(path, row)
        yield row, {name: fields[at].strip() for name, at in columns.items()}


def _in_two_places(path: Path, row: TableRow) -> DataError:
    got = f"{row.path} in another split or group than above"
    return at_line(path, row.line, got, "one split and one group per file", "correct the row")


def check_path(path: Path, root: Path, row: TableRow, *, folders: bool = False) -> TableRow:
    """The row with the path of an existing file: without `..`, and with slashes for backslashes where that is needed.
    `folders`: whether it may be a folder of frames. Raises DataError."""
    if "\\" in row.path and not ntpath.splitdrive(row.path)[0] and not (root / row.path).exists():
        row = row._replace(path=row.path.replace("\\", "/"))
    inside = f"a path inside {root}, relative to it"
    if not row.path or "\0" in row.path:
        raise at_line(path, row.line, f"the path {row.path!r}", inside, "fill it in, or leave the line out")
    if PurePosixPath(row.path).is_absolute() or ntpath.splitdrive(row.path)[0]:
        raise at_line(path, row.line, f"the absolute path {row.path!r}", inside, _made_relative(root, row.path))
    if posixpath.normpath(row.path).split("/")[0] == "..":
        remedy = _made_relative(root, posixpath.normpath(root / row.path))
        raise at_line(path, row.line, f"the path {row.path!r}", inside, remedy)
    try:
        real = Path(os.path.realpath(root / row.path))
        found = real.is_file() or (folders and real != root and real.is_dir())
    except (OSError, ValueError) as error:
        raise at_line(path, row.line, f"the path {row.path[:200]!r} ({error})", inside, "correct it") from None
    if not real.is_relative_to(root):
        raise at_line(path, row.line, f"{row.path!r}, a link to {real}", inside, "copy the file instead of linking it")
    if not found:
        raise at_line(path, row.line, f"{row.path!r}, which is not a file", inside, _where_it_is(path, root, row.path))
    if ".." in PurePosixPath(row.path).parts:  # files written under this name must stay in their folder, too
        row = row._replace(path=real.relative_to(root).as_posix())
    return row


def _made_relative(root: Path, name: str) -> str:
    """The remedy for an absolute path: its relative form, where it leads into the manifest's folder."""
    if Path(name).is_relative_to(root):
        return f"write {Path(name).relative_to(root).as_posix()!r}"
    return "put the manifest into a folder above all of its files, and write paths relative to that folder"


def _where_it_is(path: Path, root: Path, name: str) -> str:
    """The remedy for a missing file: the folder beside the manifest in which its path begins, where there is one."""
    with suppress(OSError, ValueError):
        for folder in sorted(root.iterdir())[:1000]:
            if (folder / name).is_file():
                return f"cp {pasted(path)} {pasted(folder)}/ && striate train {pasted(folder / path.name)}"
    return "correct the path, or leave the line out"
