"""Folders of DICOM slices, each read as one file."""

from __future__ import annotations

from dataclasses import replace

from striate.data.media.volume.volume_files import is_slice, pack_series, with_series
from striate.data.sources.tree import Tree


def with_folders_of_slices(tree: Tree) -> Tree:
    """The tree with one file in place of the slices of a folder, named by the folder and `*.dcm`."""
    if not any(map(is_slice, tree.files)):
        return tree
    entries = with_series(tree.files)

    def read(file: str) -> bytes:
        parts = entries.get(file, (file,))
        return tree.read(file) if parts == (file,) else pack_series(map(tree.read, parts))

    return replace(tree, files=tuple(sorted(entries)), read=read)
