"""Corrected labels, and the splits of an earlier run, in files beside the data, which are not changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from io import StringIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

from striate.data.listing import SPLIT_NAMES, Listing, class_numbers, order_classes
from striate.data.sources.manifest import table_rows
from striate.data.sources.tree import read_file
from striate.errors import DataError, pasted
from striate.wording import several

SPLIT_FILE = "split.csv"


def with_labels(listing: Listing, file: str) -> Listing:
    """The listing with the labels of a table `path,label` in place of its own.

    A sample with an empty label is left out. Labels may be new classes. Paths may name further files, absolute or
    relative to the folder of the table; these have no split. Raises DataError with the line for a path that neither the
    data nor the disk has, or that occurs twice with another label; also for data whose samples do not have one class
    each, and for a file that is not such a table.
    """
    if not listing.has_one_class_each:
        expected = "data with one class per sample"
        raise DataError("data.labels", f"{file} for data with other annotations", expected, "leave out --data.labels")
    labels = dict(_rows(Path(file), "label", set(listing.paths), partial(_is_file, listing, Path(file).parent)))
    listing, further = _with_files(listing, Path(file).parent, labels)
    kept = [number for number, path in enumerate(listing.paths) if labels.get(path, listing.labels[number])]
    if not kept:
        raise DataError(f"labels {file}", "an empty label for every sample", "samples to train on", "give labels")
    named = tuple(labels.get(path) or label for path, label in zip(listing.paths, listing.labels, strict=True))
    changed = sum(label != own for label, own in zip(named, listing.labels, strict=True))
    part = listing.part(kept)
    names = tuple(named[number] for number in kept)
    classes = order_classes(names)
    left = len(listing) - len(kept)
    note = f"Labels: {file} changes the class of {several(changed, 'sample')}"
    note += f"; {several(further, 'further file is', 'further files are')} added" if further else ""
    note += f"; {several(left, 'sample is', 'samples are')} left out." if left else "."
    return replace(
        part, labels=names, classes=classes, targets=class_numbers(names, classes), notes=(*listing.notes, note)
    )


def read_labels(file: Path) -> dict[str, str]:
    """The labels in a table `path,label`, by path, unchanged. Raises DataError for a file that is not such a table."""
    return dict(_rows(file, "label"))


def _is_file(listing: Listing, folder: Path, path: str) -> bool:
    """Whether this file exists, and belongs to the medium of the data."""
    return listing.read is not None and listing.medium.owns(path) and (folder / path).is_file()


def _with_files(listing: Listing, folder: Path, labels: Mapping[str, str]) -> tuple[Listing, int]:
    """The listing with the further files of the table, and their number."""
    known = set(listing.paths)
    paths = [path for path, label in labels.items() if path not in known and label]
    if not paths:
        return listing, 0
    n, read = len(listing), listing.read
    assert read is not None, "only data that are files have further ones"

    def read_any(number: int) -> bytes:
        return read(number) if number < n else read_file(folder / paths[number - n])

    def more(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*values, *[value] * len(paths)) if values else values

    names = (*listing.labels, *(labels[path] for path in paths))
    joined = replace(
        listing,
        paths=(*listing.paths, *paths),
        labels=names,
        given=more(listing.given, None),
        targets=class_numbers(names, order_classes(names)),
        read=read_any,
        groups=more(listing.groups, None),
        columns={name: more(values, "") for name, values in listing.columns.items()},
    )
    return joined.part(sorted(range(len(joined)), key=lambda number: joined.paths[number])), len(paths)


def with_splits(listing: Listing, source: str) -> Listing:
    """The listing with the splits of an earlier run (its folder, or a split.csv): its samples stay in their splits, and
    new samples have none, so that they join their copies and groups, or else train. Raises DataError for a file that is
    not a split.csv, or has none of these samples."""
    file = Path(source) / SPLIT_FILE if Path(source).is_dir() else Path(source)
    if not file.exists():
        got = f"a folder without {SPLIT_FILE}" if Path(source).is_dir() else "neither a run nor a file"
        got = "a cross-validation, which has folds" if (Path(source) / "folds.csv").exists() else got
        expected, remedy = f"the run of one training, or its {SPLIT_FILE}", "leave out --data.splits, or give another"
        raise DataError(f"splits {source}", got, expected, remedy)
    splits = dict(_rows(file, "split"))
    given = tuple(
        SPLIT_NAMES.get(splits.get(path, "").lower(), own)
        for path, own in zip(listing.paths, listing.given, strict=True)
    )
    known = sum(path in splits for path in listing.paths)
    if not known:
        expected = f"samples of {listing.name}, such as {listing.paths[0]}"
        raise DataError(f"splits {source}", "none of these samples", expected, "leave out --data.splits")
    note = f"Splits: {several(known, 'sample has', 'samples have')} the split of {source}"
    note += f"; {several(len(listing) - known, 'sample is', 'samples are')} new." if known < len(listing) else "."
    return replace(listing, given=given, notes=(*listing.notes, note))


def _rows(
    file: Path, column: str, known: Collection[str] | None = None, there: Callable[[str], bool] = lambda _: False
) -> Iterator[tuple[str, str]]:
    """Path and value of each row. Raises DataError for a path that is neither in `known` nor `there`, or that occurs
    twice with different values."""
    where = f"{column}s {file}"
    try:
        text = read_file(file).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = str(error) if isinstance(error, OSError) else "bytes that are not UTF-8"
        head = f"look at it: head {pasted(file)}"
        remedy = head if file.is_file() else f"leave out --data.{column}s, or give the path of such a table"
        raise DataError(where, reason, f"a table path,{column}", remedy) from None
    rows = table_rows(file, StringIO(text, newline=""))
    names = [name.strip() for name in next(rows, (1, [""]))[1]]
    if not {"path", column} <= set(names):
        remedy = f"begin the file with the line path,{column}"
        raise DataError(where, f"the columns {', '.join(names) or '(none)'}", f"path,{column}", remedy)
    seen: dict[str, str] = {}
    for line, fields in rows:
        row = dict(zip_longest(names, fields[: len(names)], fillvalue=""))
        path, value = row["path"].strip(), row[column].strip()
        if known is not None and path not in known and not there(path):
            near = get_close_matches(path, sorted(known), 1)
            expected = f"the path of a sample as in split.csv of a run{f', such as {near[0]}' if near else ''}"
            raise DataError(f"{where}, line {line}", f"{path}, which is not in the data", expected, "fix the line")
        if known is not None and seen.setdefault(path, value) != value:
            got = f"{path} as {value}, but in an earlier line as {seen[path]}"
            raise DataError(f"{where}, line {line}", got, "one label per sample", "leave out one of the lines")
        yield path, value
