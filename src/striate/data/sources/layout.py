"""Split folders (train/, val/, test/) directly under the root: all of them, each with what it must hold, or none."""

from __future__ import annotations

from collections.abc import Mapping

from striate.data.listing import SPLIT_NAMES, UNCLEAR_SPLITS, is_split
from striate.data.media.every import is_sample
from striate.data.sources.tree import Tree
from striate.errors import DataError


def given_splits(tree: Tree, inside: str) -> Mapping[str, str]:
    """The split that each folder directly under the root is; empty where none has the name of one.

    `inside` says what a split folder holds, in words. Raises DataError where only some of the folders are splits,
    where one has no folders in it, or a name that may mean val as well as test: a split taken for a class would be
    learned as one.
    """
    named = sorted(top for top in tree.tops() if is_split(top))
    if not named:
        return {}
    where, expected = f"data {tree.where}", f"split folders train/, val/, test/ only, with {inside} in each; or none"
    others = sorted(tree.tops() - set(named))
    if others:
        raise DataError(
            where,
            f"{_listed(named)} named as a split, beside {_listed(others)}",
            expected,
            f"if {_listed(named[:1])} is a class, rename it; else move the classes into the folder of their split,"
            " and everything that is no split out of here",
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
    """A note on folders whose name is another spelling of their split."""
    other = [f"{top}/ as {split}" for top, split in splits.items() if top != split]
    return (f"Split folders: {', '.join(other)}.",) if other else ()


def _listed(tops: list[str]) -> str:
    return ", ".join(f"{top}/" for top in tops[:5]) + (f" and {len(tops) - 5} more" if len(tops) > 5 else "")


def _pictures(tree: Tree, top: str) -> list[str]:
    return [file for file in tree.files if file.startswith(top + "/") and is_sample(file)]


def _what_lies_in(tree: Tree, top: str) -> str:
    pictures = _pictures(tree, top)
    what = f"{len(pictures)} pictures directly in it, the first {pictures[0]}" if pictures else "no folder in it"
    return f"{top}/, named as a split, with {what}"


def _unfold(tree: Tree, top: str, inside: str) -> str:
    if not _pictures(tree, top):
        return f"remove {top}/, or put {inside} into it"
    return (
        f"put {inside} into {top}/ and move its pictures there; or, if {top} is a class, rename the folder; or, if"
        f" its pictures have no labels, move {top}/ out of here and give it to striate predict"
    )
