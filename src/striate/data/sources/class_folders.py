"""Class folders: one subfolder for each class, with or without train/, val/, test/ above.

Either all folders under the root are splits, or none. A single folder that wraps everything is descended.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

from striate.data.listing import SPLIT_NAMES, UNCLEAR_SPLITS, Listing, class_numbers, is_split, order_classes
from striate.data.media.every_medium import is_sample, medium_of_files
from striate.data.sources.cifar import holds_cifar
from striate.data.sources.idx import is_idx
from striate.data.sources.other_layouts import instead_of_pictures
from striate.data.sources.svhn import holds_svhn
from striate.data.sources.tree import Tree, summarize_suffixes
from striate.errors import DataError, pasted
from striate.wording import several

_MANIFEST = "list the samples in a manifest .csv (path,label,split)"
_FEW_LINKS = 20
"""At most so many folders are named in a command."""


def given_splits(tree: Tree, inside: str) -> Mapping[str, str]:
    """The split of each folder directly under the root; empty where none is named as a split.

    `inside`: what a split folder contains, in words. Raises DataError where only some of the folders are splits, where
    a split has no folders, or where a name may mean val or test: a split that is read as a class would be learned as
    one.
    """
    named = sorted(top for top in tree.tops() if is_split(top))
    if not named:
        return {}
    where, expected = f"data {tree.where}", f"only split folders train/, val/, test/, with {inside} in each; or none"
    others = sorted(tree.tops() - set(named))
    if others:
        raise DataError(
            where,
            f"{_listed(named)} named as a split, beside {_listed(others)}",
            expected,
            f"if {_listed(named[:1])} is a class, rename it; else {_MANIFEST}",
        )
    unclear = [top for top in named if top.lower() in UNCLEAR_SPLITS]
    if unclear:
        got = f"{_listed(unclear)}, which may mean val or test"
        raise DataError(where, got, expected, f"rename {_listed(unclear[:1])} to val/ or test/")
    flat = [top for top in named if not any(folder.startswith(top + "/") for folder in tree.folders)]
    if flat:
        raise DataError(where, _what_lies_in(tree, flat[0]), expected, _unfold(tree, flat[0], inside))
    return {top: SPLIT_NAMES[top.lower()] for top in named}


def note_spellings(splits: Mapping[str, str]) -> tuple[str, ...]:
    """A note on folders with another spelling of their split."""
    other = [f"{top}/ as {split}" for top, split in splits.items() if top != split]
    return (f"Split folders: {', '.join(other)}.",) if other else ()


def _listed(tops: list[str]) -> str:
    return ", ".join(f"{top}/" for top in tops[:5]) + (f" and {len(tops) - 5} more" if len(tops) > 5 else "")


def _pictures(tree: Tree, top: str) -> list[str]:
    return [file for file in tree.files if file.startswith(top + "/") and is_sample(file)]


def _what_lies_in(tree: Tree, top: str) -> str:
    pictures = _pictures(tree, top)
    what = (
        f"{several(len(pictures), 'picture')} directly in it, the first {pictures[0]}"
        if pictures
        else "no folder in it"
    )
    return f"{top}/, named as a split, with {what}"


def _unfold(tree: Tree, top: str, inside: str) -> str:
    if not _pictures(tree, top):
        return f"put {inside} into {top}/, or {_MANIFEST}"
    return (
        f"put {inside} into {top}/ with its samples; if {top} is a class or has no labels, {_MANIFEST};"
        " striate predict takes files without labels"
    )


def list_classes(tree: Tree, level: int | Literal["path"] | None = None) -> Listing:
    """Every sample under a class folder, at any depth; only those of the most frequent medium. `level`: see
    `data.class_level`.

    Raises DataError where there are none, or where only some of the folders are named as splits.
    """
    splits = given_splits(tree, "a folder for each class")
    above = 1 if splits else 0
    depth = above + (level - 1 if isinstance(level, int) else 0)
    taken: list[tuple[str, str, str | None]] = []
    ignored = list(tree.hidden)
    for file in tree.files:
        parts = file.split("/")
        if not is_sample(file) or len(parts) < depth + 2:
            ignored.append(file)
            continue
        label = "/".join(parts[above:-1]) if level == "path" else parts[depth]
        taken.append((file, sys.intern(label), splits.get(parts[0])))  # one text for a million files
    if not taken:
        raise _no_images(tree) if level in (None, 1, "path") else _not_so_deep(tree, depth)
    medium = medium_of_files(file for file, _, _ in taken)
    ignored += [file for file, _, _ in taken if not medium.owns(file)]
    taken = [sample for sample in taken if medium.owns(sample[0])]
    folders = {folder.split("/")[depth] for folder in tree.folders if folder.count("/") == depth}
    _refuse_empty(tree, folders - {file.split("/")[depth] for file, _, _ in taken}, depth)
    paths, labels, given = zip(*taken, strict=True)
    classes = order_classes(labels)
    return Listing(
        name=tree.name,
        source=tree.where,
        kind=medium.name,
        annotation="class",
        paths=paths,
        labels=labels,
        given=given,
        targets=class_numbers(labels, classes),
        classes=classes,
        read=lambda number: tree.read(paths[number]),
        ignored=tuple(sorted(ignored)),
        notes=(*tree.notes, *note_spellings(splits)),
        class_level=depth - above + 1,
    )


def _not_so_deep(tree: Tree, depth: int) -> DataError:
    deepest = max((file.count("/") for file in tree.files if is_sample(file)), default=0)
    return DataError(
        f"data {tree.where}",
        f"no sample is in {several(depth + 1, 'nested folder')}",
        f"a level of at most {deepest}, the number of folders above a sample",
        "--data.class_level path, or a smaller number",
    )


def _no_images(tree: Tree) -> DataError:
    where = f"data {tree.where}"
    expected = "one subfolder per class with images (or sounds, clips, volumes), such as cats/1.jpg and dogs/1.jpg"
    loose = [file for file in tree.files if is_sample(file) and not file.lower().endswith(".npz")]
    if loose:
        first = PurePosixPath(loose[0]).name
        return DataError(
            where,
            f"{several(len(loose), 'sample is', 'samples are')} not in a class folder, the first {loose[0]}",
            expected,
            "write a manifest .csv beside them with the line path,label and one line per sample, such as"
            f" {first},CLASS; or copy them into one subfolder per class",
        )
    found = f"{summarize_suffixes(tree.files)} in {several(len(tree.folders) + 1, 'folder')}, but no sample"
    return DataError(where, found, expected, instead_of_pictures(tree))


def _refuse_empty(tree: Tree, empty: set[str], depth: int) -> None:
    if not empty:
        return
    first = sorted(empty)[0]
    prefix = "*/" if depth else ""
    inside = [file for file in tree.files if file.split("/")[depth : depth + 1] == [first]]
    raise DataError(
        f"data {tree.where}",
        (
            f"the class folder {first}/ contains {summarize_suffixes(inside)} but no sample"
            if inside
            else f"the class folder {first}/ is empty"
        )
        + (f" (likewise {len(empty) - 1} more)" if len(empty) > 1 else ""),
        "at least one sample in every class folder",
        f"put samples into {prefix}{first}/; or {_without(tree, empty, depth)}",
    )


def _without(tree: Tree, empty: set[str], depth: int) -> str:
    """The remedy that leaves out folders without moving them: links to the other folders, where these are few."""
    others = sorted(tree.tops() - empty)
    if depth or not 0 < len(others) <= _FEW_LINKS or not Path(tree.where).is_dir():
        return "list the samples of the other classes in a manifest .csv with the columns path,label"
    name = pasted(f"{tree.name}-classes")
    links = " ".join(pasted(PurePosixPath(tree.where) / other) for other in others)
    return f"leave it out: mkdir {name} && ln -s {links} {name}/ && striate train {name}"


def unwrapped(tree: Tree) -> Tree:
    """The tree below folders that wrap everything else; a note names them.

    Files beside a wrapping folder (a README) are listed in `hidden`, by their path from the root. A folder with
    pictures is a class, and a folder named as a split is a split: neither is descended.
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
    note = f"Paths are relative to the folder {prefix}, which contains all of the data."
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
