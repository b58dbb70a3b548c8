"""Files and folders of pictures as inputs for a trained network."""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data.dataset import Preparation
from striate.data.images import UnreadableImage, decode_image
from striate.data.scan import why_unreadable
from striate.data.sources.tree import as_text, is_picture, walk_folder
from striate.data.threads import map_ordered
from striate.errors import DataError


@dataclass(frozen=True)
class ReadInput:
    """One file: its `path` as text (bytes that are not UTF-8 escaped), and its `input` as uint8 (C, H, W), or the
    `error` in plain words."""

    path: str
    input: np.ndarray | None
    error: str | None


def list_inputs(paths: Sequence[Path | str]) -> tuple[tuple[str, ...], int]:
    """The files to read, in order, and how many files in folders were ignored.

    A file that is given by name is always taken; a folder is searched at every depth, in sorted order, for files
    with the suffix of a picture. Hidden files are ignored. Raises DataError for a path that does not exist.
    """
    found: list[str] = []
    ignored = 0
    for path in map(Path, paths):
        if stat.S_ISDIR(_mode(path)):
            files, _, hidden = walk_folder(path)
            pictures = [os.path.join(path, file) for file in sorted(files) if is_picture(file)]  # noqa: PTH118
            found += pictures
            ignored += len(files) - len(pictures) + len(hidden)
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
    """Raise DataError if the network does not take pictures."""
    if preparation.kind != "image":
        raise DataError(
            "predict",
            "files of pictures",
            f"a {preparation.kind} of numbers of shape {preparation.input_shape}, which this network was trained on",
            "striate.load(run).predict(numpy_array)",
        )


def read_inputs(files: Sequence[str], preparation: Preparation) -> Generator[ReadInput, None, None]:
    """Decode the files of `list_inputs` in order, a few ahead of the reader; unreadable ones come with their error.

    Raises DataError at once if the network does not take pictures.
    """
    require_pictures(preparation)

    def read(path: str) -> ReadInput:
        file, name = Path(path), as_text(path)
        try:
            # A named pipe or device would block or never end.
            if not stat.S_ISREG(file.stat().st_mode):
                return ReadInput(name, None, "no regular file")
            return ReadInput(name, decode_image(file, name, preparation), None)
        except UnreadableImage as error:
            return ReadInput(name, None, error.reason)
        except OSError as error:
            return ReadInput(name, None, why_unreadable(error))

    return map_ordered(read, files)
