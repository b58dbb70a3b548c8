"""Manifests: a .csv with the columns path,label[,split][,group], a row an image."""

from __future__ import annotations

import csv
import ntpath
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np

from striate.data.listing import SPLIT_NAMES, Listing, as_number, class_numbers, order_classes
from striate.data.media.every_medium import medium_of_files
from striate.data.sources.tree import check_size, read_file
from striate.errors import DataError
from striate.wording import listed

_NAMES = ("path", "label", "split", "group")
_HEADER = "path,label, and if there are any split and group: path,label,split,group"
MAX_ROWS = 10_000_000
_LONGEST_LINE = 1 << 20
_REMEDY = "begin the file with the line path,label or path,label,split or path,label,split,group"


class _Row(NamedTuple):
    path: str
    line: int
    label: str
    split: str | None
    group: str | None
    others: tuple[str, ...]


def list_manifest(path: Path, annotation: str | None) -> Listing:
    """The rows of a manifest; paths are relative to its folder and stay inside it.

    Labels that are all numbers, with a fraction somewhere, are numbers, or where `annotation` is "number"; else
    class names. Raises DataError with the line.
    """
    rows, others = _parse(path)
    root = Path(os.path.realpath(path.parent))
    for row in rows:
        _check_path(path, root, row)
    rows.sort()
    paths = tuple(row.path for row in rows)
    labels = tuple(row.label for row in rows)
    numbers = [as_number(label) for label in labels]
    is_number = annotation == "number" or (
        annotation is None
        and all(n is not None for n in numbers)
        and any(n is not None and n != int(n) for n in numbers)
    )
    classes = () if is_number else order_classes(labels)
    return Listing(
        name=path.stem,
        source=str(path),
        kind=medium_of_files(paths).name,
        annotation="number" if is_number else "class",
        paths=paths,
        labels=labels,
        given=tuple(row.split for row in rows),
        targets=_numbers(path, rows, numbers) if is_number else class_numbers(labels, classes),
        classes=classes,
        read=lambda number: read_file(root / paths[number]),
        target_names=("label",) if is_number else (),
        notes=(f"Columns of the manifest for slices of the evaluation alone: {listed(others, 10)}.",) if others else (),
        groups=tuple(row.group for row in rows) if any(row.group for row in rows) else (),
        columns={name: tuple(row.others[place] for row in rows) for place, name in enumerate(others)},
    )


def _numbers(path: Path, rows: list[_Row], numbers: list[float | None]) -> np.ndarray:
    for row, number in zip(rows, numbers, strict=True):
        if number is None:
            raise _at(path, row.line, f"the label {row.label!r}", "a finite number", "correct it, or --task classify")
    return np.array(numbers, dtype=np.float32)[:, None]


def _at(path: Path, line: int, got: str, expected: str, remedy: str) -> DataError:
    return DataError(f"manifest {path}, line {line}", got, expected, remedy)


def _parse(path: Path) -> tuple[list[_Row], list[str]]:
    """The rows, and the names of the further columns."""
    rows: list[_Row] = []
    columns: dict[str, int] | None = None
    try:
        check_size(path.stat().st_size, f"manifest {path}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, fields in _fields(path, file):
                if columns is None:
                    columns = _header(path, line, fields)
                elif len(rows) < MAX_ROWS:
                    rows.append(_row(path, line, fields, columns))
                else:
                    raise _at(path, line, "one more row", f"at most {MAX_ROWS:,} rows", "divide it into several sets")
    except UnicodeDecodeError as error:
        raise DataError(
            f"manifest {path}", f"bytes that are not UTF-8 ({error})", "a text file in UTF-8", "save it as UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"manifest {path}", str(error), "a file that can be read", "check the file") from None
    if columns is None or not rows:
        raise DataError(f"manifest {path}", "no rows", "a header and at least one row", _REMEDY)
    return rows, _further(columns)


def _further(columns: dict[str, int]) -> list[str]:
    return [name for name in columns if name not in _NAMES]


def _fields(path: Path, file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """The fields of each row that is not empty, with the number of its last line; a row at a time in memory."""
    reader = csv.reader(_lines(path, file))
    try:
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, fields
    except csv.Error as error:
        raise _at(path, reader.line_num, f"no CSV ({error})", "fields separated by commas", "fix the line") from None


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    number = 0
    while line := file.readline(_LONGEST_LINE + 1):
        number += 1
        if len(line) > _LONGEST_LINE:
            expected = f"lines of at most {_LONGEST_LINE:,} characters"
            raise _at(path, number, "a longer one", expected, "write path,label,split,group alone")
        yield line


def _header(path: Path, line: int, fields: list[str]) -> dict[str, int]:
    names = [field.strip().lower() for field in fields]
    columns = {name: position for position, name in enumerate(names)}
    if not {"path", "label"} <= set(names) or len(columns) != len(names):
        raise _at(path, line, f"the header {','.join(fields)[:200]!r}", _HEADER, _REMEDY)
    return columns


def _row(path: Path, line: int, fields: list[str], columns: dict[str, int]) -> _Row:
    if len(fields) != len(columns):
        raise _at(
            path,
            line,
            f"{len(fields)} fields",
            f"{len(columns)}, as in the header",
            "put a field with a comma in double quotes",
        )
    file, label = fields[columns["path"]].strip(), fields[columns["label"]].strip()
    if not label:
        raise _at(path, line, f"no label for {file!r}", "a class name or a number", "fill it in, or leave the line out")
    word = fields[columns["split"]].strip().lower() if "split" in columns else ""
    if word and word not in SPLIT_NAMES:
        raise _at(path, line, f"the split {word!r}", "train, val, test or nothing", "correct the word")
    group = fields[columns["group"]].strip() if "group" in columns else ""
    others = tuple(fields[columns[name]].strip() for name in _further(columns))
    return _Row(file, line, label, SPLIT_NAMES.get(word), group or None, others)


def _check_path(path: Path, root: Path, row: _Row) -> None:
    inside = f"a path inside {root}, relative to it"
    if not row.path or "\0" in row.path:
        raise _at(path, row.line, f"the path {row.path!r}", inside, "fill it in, or leave the line out")
    if PurePosixPath(row.path).is_absolute() or ntpath.splitdrive(row.path)[0]:
        raise _at(path, row.line, f"the absolute path {row.path!r}", inside, "write it relative to the manifest")
    if ".." in PurePosixPath(row.path).parts:
        raise _at(path, row.line, f"the path {row.path!r}", inside, "move the manifest up, above all of its files")
    try:
        real = Path(os.path.realpath(root / row.path))
        found = real.is_file()
    except (OSError, ValueError) as error:
        raise _at(path, row.line, f"the path {row.path[:200]!r} ({error})", inside, "correct it") from None
    if not real.is_relative_to(root):
        raise _at(path, row.line, f"{row.path!r}, a link to {real}", inside, "copy the file instead of linking it")
    if not found:
        raise _at(path, row.line, f"{row.path!r}, which is no file", inside, "correct the path, or leave the line out")
