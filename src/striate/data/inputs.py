"""Files and folders of pictures as inputs for a trained network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from striate.data.dataset import Preparation
from striate.data.images import UnreadableImage, decode_image
from striate.data.sources.tree import folder_tree, is_picture
from striate.data.threads import map_ordered
from striate.errors import DataError


@dataclass(frozen=True)
class ReadInput:
    """One file: its `input` as uint8 (C, H, W), or the `error` in plain words."""

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
        if path.is_dir():
            tree = folder_tree(path)
            pictures = [os.path.join(path, file) for file in tree.files if is_picture(file)]  # noqa: PTH118
            found += pictures
            ignored += len(tree.files) - len(pictures) + len(tree.hidden)
        elif path.exists():
            found.append(str(path))
        else:
            raise DataError(f"path {path}", "no such file or folder", "pictures, or folders of them", "check the path")
    return tuple(found), ignored


def read_inputs(paths: Sequence[Path | str], preparation: Preparation) -> Iterator[ReadInput]:
    """Decode files and folders in order, a few files ahead of the reader; unreadable ones come with their error.

    Raises DataError at once for a path that does not exist, or if the network does not take pictures.
    """
    if preparation.kind != "image":
        raise DataError(
            "predict",
            "files of pictures",
            f"a {preparation.kind} of numbers of shape {preparation.input_shape}, which this network was trained on",
            "striate.load(run).predict(numpy_array)",
        )
    files, _ = list_inputs(paths)

    def read(path: str) -> ReadInput:
        file = Path(path)
        if not file.is_file():
            return ReadInput(path, None, "no regular file")
        try:
            return ReadInput(path, decode_image(file, path, preparation), None)
        except UnreadableImage as error:
            return ReadInput(path, None, error.reason)

    return map_ordered(read, files)
