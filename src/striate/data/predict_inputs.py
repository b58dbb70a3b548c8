"""Inputs of a trained network from files and folders."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data.dataset import Preparation
from striate.data.listing import as_number
from striate.data.media.clip.clip_files import frames_of_folder, is_frame
from striate.data.media.every_medium import is_sample, medium_of
from striate.data.media.medium import Medium, Unreadable
from striate.data.media.volume.volume_files import SERIES, with_series
from striate.data.scan import why_unreadable
from striate.data.sources.npz import npy_inputs, npz_inputs
from striate.data.sources.tree import as_text, check_size, walk_folder
from striate.data.threads import map_ordered
from striate.errors import DataError
from striate.wording import listed, several


@dataclass(frozen=True)
class ReadInput:
    """The input that was read from a file, or the error."""

    path: str
    """The path as text; bytes that are not UTF-8 are escaped."""
    input: np.ndarray | None
    """The input as the network takes it; None where the file cannot be read."""
    error: str | None
    """Why the file cannot be read; None where it can."""
    size: tuple[int, ...] | None = None
    """(height, width) of the file in pixels, of a volume (depth, height, width), for uncropped inputs; else None."""


def list_inputs(paths: Sequence[Path | str], medium: Medium | None = None) -> tuple[tuple[str, ...], int]:
    """The files to read, in order, and the number of ignored files in folders.

    A file that is given by name is always read. Folders are searched at every depth, in sorted order, for files with a
    suffix of the `medium` (None: of any), and for folders of frames if it reads these. A folder that is one sample, of
    frames or of DICOM slices, is named by its own path. Hidden files are ignored. Raises DataError for a path that does
    not exist.
    """
    owned = is_sample if medium is None else medium.owns
    found: list[str] = []
    ignored = 0
    for path in map(Path, paths):
        if stat.S_ISDIR(_mode(path)) and not (medium is not None and medium.folders and frames_of_folder(path)):
            files, _, hidden = walk_folder(path)
            entries = with_series(sorted(files))
            taken = [file for file in entries if owned(file)]
            frames = _folders_of_frames(files, owned) if medium is not None and medium.folders else {}
            own = (os.path.join(path, file) for file in sorted([*taken, *frames]))  # noqa: PTH118
            found += [file.removesuffix(f"{os.sep}{SERIES}") for file in own]
            ignored += len(entries) - len(taken) - sum(frames.values()) + len(hidden)
        else:
            found.append(str(path))
    return tuple(found), ignored


def _folders_of_frames(files: Sequence[str], owned: Callable[[str], bool]) -> dict[str, int]:
    """The folders that contain pictures and no film, with the number of pictures in each."""
    counts = Counter(os.path.dirname(file) for file in files if is_frame(os.path.basename(file)))  # noqa: PTH119, PTH120
    films = {os.path.dirname(file) for file in files if owned(file)}  # noqa: PTH120
    return {folder: count for folder, count in counts.items() if folder and folder not in films}


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        reason = "no such file or folder"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise DataError(f"path {as_text(str(path))}", reason, "files, or folders of them", "check the path")


def holds_rows(path: Path | str, preparation: Preparation) -> bool:
    """Whether the file at `path` has samples as rows: an .npz; an .npy, if the network does not take files; a .csv, if
    it takes tables."""
    medium = medium_of(preparation.kind)
    if medium.owns(str(path)):
        return False
    suffixes = (".npz", *(() if medium.of_files else (".npy",)), *((".csv", ".tsv") if medium.flat else ()))
    return str(path).lower().endswith(suffixes) and Path(path).is_file()


def read_rows(path: Path, preparation: Preparation) -> dict[str, np.ndarray]:
    """The samples of a file that `holds_rows`, as raw inputs by name: `file.csv#3`, counted from 0; `file.npy` for an
    .npy with one sample. The columns of a .csv with a header are found by name where the network knows the names of its
    features, else they must have the order of the training. Raises DataError."""
    if path.suffix.lower() in (".npz", ".npy"):
        return (npz_inputs if path.suffix.lower() == ".npz" else npy_inputs)(path, preparation)
    check_size(path.stat().st_size, str(path))
    lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
    sign = max(",;\t", key=lines[0].count) if lines else ","
    reader = csv.reader(lines, delimiter=sign)
    rows = [(reader.line_num, [field.strip() for field in row]) for row in reader if any(row)]
    header = rows.pop(0)[1] if rows and all(as_number(field) is None for field in rows[0][1]) else []
    (features,) = preparation.input_shape
    named = header and preparation.features and len(header) == features
    order = _column_order(path, header, preparation.features) if named else list(range(features))
    samples = {}
    for number, (line, row) in enumerate(rows):
        values = [as_number(field) for field in row]
        if len(row) != features:
            got = f"line {line}: {several(len(row), 'field')}"
            expected = f"{several(features, 'number')}: only the features, in the order of the training"
            more = len(row) > features
            remedy = "leave out other columns, such as the label" if more else "add the columns that are missing"
            raise DataError(f"table {path}", got, expected, remedy)
        if None in values:
            column = values.index(None)
            name = header[column] if len(header) == features else column + 1
            got = f"line {line}: {row[column][:40]!r} in the column {name}"
            raise DataError(f"table {path}", got, "a finite number", "correct it, or leave out the line")
        samples[f"{path}#{number}"] = np.array(values, np.float32)[order]
    return samples


def _column_order(path: Path, header: Sequence[str], features: Sequence[str]) -> list[int]:
    """The column of each feature. Upper case, units in brackets, spaces and punctuation in names do not count."""

    def plain(name: str) -> str:
        return "".join(letter for letter in re.sub(r"\[.*?\]|\(.*?\)", "", name.casefold()) if letter.isalnum())

    columns = {plain(name): column for column, name in enumerate(header)}
    lacking = [name for name in features if plain(name) not in columns]
    if lacking:
        raise DataError(
            f"table {path}, line 1",
            f"the columns {listed(header, 20)}, without {listed(lacking, 20)}",
            f"a column for each feature of the training: {listed(features, 20)}",
            "name the columns so, or delete line 1 if they have this order",
        )
    return [columns[plain(name)] for name in features]


def row_named(text: str, preparation: Preparation) -> np.ndarray | None:
    """The sample with the name `text` in such a file; the name of the file is enough if it has one sample. None where
    there is no such file. Raises DataError for a number that the file does not have."""
    path = next((path for path in (text, text.rpartition("#")[0]) if path and holds_rows(path, preparation)), None)
    if path is None:
        return None
    rows = read_rows(Path(path), preparation)
    if text not in rows and (text != path or len(rows) != 1):
        got = several(len(rows), "sample") if text == path else "no such sample"
        raise DataError(text, got, f"the name of one sample: {listed(list(rows), 3)}", next(iter(rows), "another file"))
    found: np.ndarray = rows[text] if text in rows else next(iter(rows.values()))
    return found


def typed_row(text: str, preparation: Preparation) -> np.ndarray | None:
    """The row of a table that a text is, numbers with commas between them; None for other texts, and for a network that
    takes no tables. Raises DataError for too few or too many numbers."""
    values = [as_number(field) for field in text.split(",")]
    if not medium_of(preparation.kind).flat or None in values:
        return None
    (features,) = preparation.input_shape
    if len(values) != features:
        got = f"{several(len(values), 'number')} for {several(features, 'feature')} of the table"
        raise DataError(text[:80], got, "a number for each, separated by commas", ",".join(["0"] * features))
    return np.array(values, np.float32)


def require_pictures(preparation: Preparation, path: str = "") -> None:
    """Raise DataError if the network takes no files; `path`: the file that was given."""
    medium = medium_of(preparation.kind)
    if not medium.suffixes:
        raise DataError(
            f"predict {as_text(path)}".strip(),
            "an image, sound, clip or volume" if path else "files of images, sounds, clips or volumes",
            f"{medium.describe(preparation.input_shape)}, which this network was trained on",
            "numpy.savez('new.npz', x=x), for one sample x=x[None]; then: striate predict RUN new.npz"
            + (", or a .csv of their numbers" if medium.flat else ""),
        )


def read_inputs(
    files: Sequence[str],
    preparation: Preparation,
    *,
    read_one: Callable[[Path], tuple[np.ndarray, tuple[int, ...] | None]] | None = None,
) -> Generator[ReadInput, None, None]:
    """Decode the files of `list_inputs` in order, a few ahead of the caller; unreadable ones have their error.

    `read_one`: returns the input of a file and its size; None: the raw input without a size. Raises DataError at once
    if the network does not take files.
    """
    require_pictures(preparation)
    medium = medium_of(preparation.kind)

    def read(path: str) -> ReadInput:
        file, name = Path(path), as_text(path)
        try:
            # A named pipe or device would block or never end.
            mode = file.stat().st_mode
            if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                return ReadInput(name, None, "not a regular file")
            if read_one is None:
                return ReadInput(name, medium.decode(file, name, preparation), None)
            read, size = read_one(file)
            return ReadInput(name, read, None, size)
        except Unreadable as error:
            return ReadInput(name, None, error.reason)
        except OSError as error:
            return ReadInput(name, None, why_unreadable(error))

    return map_ordered(read, files)
