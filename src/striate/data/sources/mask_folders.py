"""Folders of images and their masks: images/ and masks/, with or without train/, val/, test/ above or below.

`classes.txt` names the values of masks: line i, from 0, is value i; or each line begins with its value (`255 road`).
`colors.txt` names the colors of masks, with a line `r g b name` for each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from striate.data.listing import SPLIT_NAMES, Listing, is_split
from striate.data.media.every_medium import medium_of_files
from striate.data.media.medium import suffix_of
from striate.data.sources.class_folders import given_splits, note_spellings
from striate.data.sources.other_layouts import instead_of_pictures, linked_pairs
from striate.data.sources.tree import Tree, summarize_suffixes
from striate.errors import DataError
from striate.wording import several

_PAIR = {"images", "masks"}


def holds_masks(tree: Tree) -> bool:
    """Whether images/ and masks/ are directly under the root, or under a split folder."""
    tops, folders = tree.tops(), set(tree.folders)
    return tops >= _PAIR or any({f"{top}/images", f"{top}/masks"} <= folders for top in tops if is_split(top))


def list_masks(tree: Tree) -> Listing:
    """Every picture under images/, with the mask of the same stem under masks/.

    Raises DataError where an image has no mask or two, or where a split folder has no images/.
    """
    splits = {} if tree.tops() >= _PAIR else given_splits(tree, "the folders images/ and masks/")
    below = {} if splits else _splits_below(tree)
    depth = 1 if splits else 0
    for top in splits:
        if f"{top}/images" not in tree.folders:
            raise DataError(
                f"data {tree.where}", f"{top}/ without images/", "images/ and masks/ in every split", "add the folder"
            )
    image = medium_of_files(file for file in tree.files if _PAIR & set(file.split("/")[:-1]))
    images: dict[tuple[str, str], str] = {}
    masks: dict[tuple[str, str], str] = {}
    names = _read_names(tree)
    ignored = list(tree.hidden)
    for file in tree.files:
        parts = file.split("/")
        side = {"images": images, "masks": masks}.get(parts[depth] if len(parts) > depth + 1 else "")
        if side is None or not image.owns(file):
            ignored += [] if file in names.files else [file]
            continue
        stem = "/".join(parts[depth + 1 :])
        stem = stem[: -len(suffix_of(stem))]
        split = splits.get(parts[0], "") or below.get(parts[1], "")
        other = side.setdefault((split, stem), file)
        if other != file:
            raise DataError(
                f"data {tree.where}", f"{other} and {file}", "one file for each stem", "give one of them another name"
            )
    _check_pairs(tree, images, masks)
    pairs = sorted((images[key], masks[key], key[0] or None) for key in images)
    paths, mask_paths, given = zip(*pairs, strict=True)
    ignored += [masks[key] for key in masks if key not in images]
    return Listing(
        name=tree.name,
        source=tree.where,
        kind=image.name,
        annotation="mask",
        paths=paths,
        labels=mask_paths,
        given=given,
        targets=None,
        read=lambda number: tree.read(paths[number]),
        read_mask=lambda number: tree.read(mask_paths[number]),
        ignored=tuple(sorted(ignored)),
        notes=(*tree.notes, *note_spellings(splits)),
        classes=names.names,
        values=names.values,
        colors=names.colors,
    )


def _splits_below(tree: Tree) -> dict[str, str]:
    """The split of each folder under images/ (`images/train/`); empty unless all are named as splits."""
    folders = {folder.split("/")[1] for folder in tree.folders if folder.startswith("images/")}
    loose = any(file.count("/") == 1 and file.startswith("images/") for file in tree.files)
    if not folders or loose or not all(folder.lower() in SPLIT_NAMES for folder in folders):
        return {}
    return {folder: SPLIT_NAMES[folder.lower()] for folder in folders}


@dataclass(frozen=True)
class _Names:
    """The classes of masks."""

    names: tuple[str, ...] = ()
    values: tuple[int, ...] = ()
    """The value of each class."""
    colors: tuple[tuple[int, int, int], ...] = ()
    """(r, g, b) of the values 0, 1, …, where masks are in color."""
    files: tuple[str, ...] = ()
    """The files that name the classes."""


_VALUE = re.compile(r"([0-9]{1,3})(?:\s*[:,=;]\s*|\s+)(\S.*)")
_COLOR = re.compile(r"([0-9]{1,3})[\s,;]+([0-9]{1,3})[\s,;]+([0-9]{1,3})[\s,;:]+(\S.*)")


def _read_names(tree: Tree) -> _Names:
    """The classes in `colors.txt`, else in `classes.txt`. Raises DataError with the line."""
    present = tuple(file for file in ("colors.txt", "classes.txt") if file in tree.files)
    if not present:
        return _Names()
    where, colored = f"data {tree.where}, {present[0]}", present[0] == "colors.txt"
    text = tree.read(present[0]).decode("utf-8-sig", "replace")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    found = [(_COLOR if colored else _VALUE).fullmatch(line) for _, line in lines]
    numbered = colored or all(found)
    rows: list[tuple[str, int]] = []
    colors: list[tuple[int, int, int]] = []
    for (number, line), match in zip(lines, found, strict=True):
        value = len(rows) if colored or not numbered else int(match[1]) if match else -1
        parts = tuple(int(part) for part in match.groups()[:-1]) if colored and match else (value,)
        if (colored and match is None) or max(parts) > 255:
            expected = (
                "`r g b name`, each from 0 to 255" if colored else "a name, or `value name` with a value up to 255"
            )
            raise DataError(f"{where}, line {number}", line[:80], expected, "correct the line")
        if colored:
            colors.append((parts[0], parts[1], parts[2]))
        rows.append((match.groups()[-1] if numbered and match else line, value))
    columns: dict[str, Sequence[object]] = {"name": [name for name, _ in rows], "value": [value for _, value in rows]}
    for what, column in (columns | {"color": colors}).items():
        twice = [k for k, value in enumerate(column) if value in column[:k]]
        if twice:
            first = lines[twice[0]]
            remedy = f"give it another {what}, or remove the line"
            raise DataError(f"{where}, line {first[0]}", first[1][:80], f"each {what} once", remedy)
    if not rows:
        raise DataError(where, "no name", "a class name on each line", "name the classes, or remove the file")
    names, values = zip(*rows, strict=True)
    return _Names(names, values, tuple(colors), present)


def _check_pairs(tree: Tree, images: dict[tuple[str, str], str], masks: dict[tuple[str, str], str]) -> None:
    if not images:
        raise DataError(
            f"data {tree.where}",
            f"no picture in images/, {len(masks)} in masks/, {summarize_suffixes(tree.files)} in total",
            "pictures in images/ and a mask with the same stem in masks/",
            instead_of_pictures(tree),
        )
    lone = sorted(images[key] for key in images if key not in masks)
    if lone:
        flat = masks and not any(split or "/" in stem for split, stem in masks)
        suffix = PurePosixPath(next(iter(masks.values()))).suffix if masks else ""
        links = linked_pairs(tree, "images", "masks", suffix) if flat else ""
        raise DataError(
            f"data {tree.where}",
            f"{len(lone)} of {several(len(images), 'image')} without a mask: {', '.join(lone[:5])}",
            "for every image a mask with the same stem in masks/",
            "add their masks" + (f"; or without these images: {links}" if links else ""),
        )
