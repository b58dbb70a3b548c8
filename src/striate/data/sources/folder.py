"""Folders of images: one subfolder a class, with or without train/, val/, test/ above."""

from __future__ import annotations

from pathlib import PurePosixPath

from striate.data.listing import Listing, class_numbers, order_classes
from striate.data.media.every import is_sample, medium_of_files
from striate.data.sources.layout import given_splits, note_spellings
from striate.data.sources.tree import Tree, summarize_suffixes
from striate.errors import DataError


def list_classes(tree: Tree) -> Listing:
    """Every sample under a class folder, at any depth; of several media the one that most files are of.

    Raises DataError where there is no such thing, or where some of the folders are named as splits and others are not.
    """
    splits = given_splits(tree, "a folder for each class")
    depth = 1 if splits else 0
    taken: list[tuple[str, str, str | None]] = []
    ignored = list(tree.hidden)
    for file in tree.files:
        parts = file.split("/")
        if not is_sample(file) or len(parts) < depth + 2:
            ignored.append(file)
            continue
        taken.append((file, parts[depth], splits.get(parts[0])))
    if not taken:
        raise _no_images(tree)
    medium = medium_of_files(file for file, _, _ in taken)
    ignored += [file for file, _, _ in taken if not medium.owns(file)]
    taken = [sample for sample in taken if medium.owns(sample[0])]
    folders = {folder.split("/")[depth] for folder in tree.folders if folder.count("/") == depth}
    _refuse_empty(tree, folders - {label for _, label, _ in taken}, depth)
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
    )


def _no_images(tree: Tree) -> DataError:
    where = f"data {tree.where}"
    expected = "one subfolder a class with pictures in it, such as cats/1.jpg and dogs/1.jpg"
    loose = [file for file in tree.files if is_sample(file)]
    if loose:
        first = PurePosixPath(loose[0]).name
        return DataError(
            where,
            f"{len(loose)} pictures that lie in no class folder, the first {loose[0]}",
            expected,
            f"make a subfolder for each class and move the pictures there, {first} first; or write a manifest .csv"
            " with the columns path,label",
        )
    found = f"{summarize_suffixes(tree.files)} in {len(tree.folders) + 1} folders, no picture among them"
    return DataError(where, found, expected, "give the folder (or archive) that holds the pictures")


def _refuse_empty(tree: Tree, empty: set[str], depth: int) -> None:
    if not empty:
        return
    first = sorted(empty)[0]
    prefix = "*/" if depth else ""
    inside = [file for file in tree.files if file.split("/")[depth : depth + 1] == [first]]
    raise DataError(
        f"data {tree.where}",
        f"the class folder {first}/ holds {summarize_suffixes(inside)} and no picture"
        + (f" (and so {len(empty) - 1} more)" if len(empty) > 1 else ""),
        "at least one picture in every class folder",
        f"put pictures into it, or move it elsewhere: mv '{tree.where}/{prefix}{first}' /tmp/",
    )
