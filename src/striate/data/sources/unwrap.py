"""The folder that wraps everything in an archive, and one within it, is descended."""

from __future__ import annotations

from dataclasses import replace

from striate.data.listing import is_split
from striate.data.media.every import is_sample
from striate.data.sources.cifar import holds_cifar
from striate.data.sources.idx import is_idx
from striate.data.sources.svhn import holds_svhn
from striate.data.sources.tree import Tree


def unwrapped(tree: Tree) -> Tree:
    """The tree from the first folder on that holds more than one other folder; a note says which.

    What lies beside a wrapping folder (a README) is among `hidden`, by its path in the archive. A folder with
    pictures is a class, one named as a split is a split: neither is descended.
    """
    whole, prefix = tree, ""
    while (top := _wrapping(tree)) is not None:
        prefix += top + "/"
        hidden = tuple(sorted((*tree.hidden, *(prefix.removesuffix(top + "/") + file for file in tree.loose()))))
        tree = replace(
            tree,
            files=tuple(file.removeprefix(top + "/") for file in tree.files if file.startswith(top + "/")),
            folders=tuple(folder.removeprefix(top + "/") for folder in tree.folders if folder != top),
            hidden=hidden,
        )
    if not prefix:
        return whole
    note = f"Paths are relative to the folder {prefix} that holds everything in the archive."
    return replace(tree, read=lambda file: whole.read(prefix + file), notes=(*tree.notes, note))


def _wrapping(tree: Tree) -> str | None:
    tops, loose = tree.tops(), tree.loose()
    if len(tops) != 1 or any(is_sample(file) or is_idx(file) for file in loose):
        return None
    (top,) = tops
    if holds_cifar(tree) or holds_svhn(tree) or is_split(top):
        return None
    inside = [file.removeprefix(top + "/") for file in tree.files if file.startswith(top + "/")]
    deeper = any(folder.startswith(top + "/") for folder in tree.folders)
    return top if deeper or not any(is_sample(file) for file in inside) else None
