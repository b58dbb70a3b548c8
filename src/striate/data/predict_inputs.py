"""Files and folders as inputs for a trained network."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data.dataset import Preparation
from striate.data.media.every_medium import is_sample, medium_of
from striate.data.media.medium import Medium, Unreadable
from striate.data.scan import why_unreadable
from striate.data.sources.tree import as_text, walk_folder
from striate.data.threads import map_ordered
from striate.errors import DataError


@dataclass(frozen=True)
class ReadInput:
    """One file: its `path` as text (bytes that are not UTF-8 escaped), and its `input` as the network takes it, or the
    `error` in plain words."""

    path: str
    input: np.ndarray | None
    error: str | None


def list_inputs(paths: Sequence[Path | str], medium: Medium | None = None) -> tuple[tuple[str, ...], int]:
    """The files to read, in order, and how many files in folders were ignored.

    A file that is given by name is always taken; a folder is searched at every depth, in sorted order, for files
    with a suffix of the `medium` (None: of any). Hidden files are ignored. Raises DataError for a path that does not
    exist.
    """
    owned = is_sample if medium is None else medium.owns
    found: list[str] = []
    ignored = 0
    for path in map(Path, paths):
        if stat.S_ISDIR(_mode(path)):
            files, _, hidden = walk_folder(path)
            taken = [os.path.join(path, file) for file in sorted(files) if owned(file)]  # noqa: PTH118
            found += taken
            ignored += len(files) - len(taken) + len(hidden)
        else:
            found.append(str(path))
    return tuple(found), ignored


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        reason = "no such file or folder"
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise DataError(f"path {as_text(str(path))}", reason, "pictures, or folders of them", "check the path")


def require_pictures(preparation: Preparation) -> None:
    """Raise DataError if the network does not take files."""
    medium = medium_of(preparation.kind)
    if not medium.suffixes:
        raise DataError(
            "predict",
            "files of pictures",
            f"{medium.a} of numbers of shape {preparation.input_shape}, which this network was trained on",
            "striate.load(run).predict(numpy_array)",
        )


def read_inputs(files: Sequence[str], preparation: Preparation) -> Generator[ReadInput, None, None]:
    """Decode the files of `list_inputs` in order, a few ahead of the reader; unreadable ones come with their error.

    Raises DataError at once if the network does not take files.
    """
    require_pictures(preparation)
    decode = medium_of(preparation.kind).decode

    def read(path: str) -> ReadInput:
        file, name = Path(path), as_text(path)
        try:
            # A named pipe or device would block or never end.
            if not stat.S_ISREG(file.stat().st_mode):
                return ReadInput(name, None, "no regular file")
            return ReadInput(name, decode(file, name, preparation), None)
        except Unreadable as error:
            return ReadInput(name, None, error.reason)
        except OSError as error:
            return ReadInput(name, None, why_unreadable(error))

    return map_ordered(read, files)
