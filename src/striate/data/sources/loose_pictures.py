"""Folders of images without classes: pictures directly in the folder, or in train/, val/ and test/."""

from __future__ import annotations

from striate.data.annotations.inputs_as_targets import InputsAsTargets, refuse_other_than_images
from striate.data.listing import SPLIT_NAMES, Listing, is_split
from striate.data.media.every_medium import is_sample, medium_of_files
from striate.data.sources.class_folders import note_spellings
from striate.data.sources.tree import Tree


def holds_loose_pictures(tree: Tree) -> bool:
    """Whether a picture is directly under the root, or in a folder that is named as a split."""
    return any(_is_loose(file) for file in tree.files if is_sample(file))


def _is_loose(file: str) -> bool:
    top, _, rest = file.partition("/")
    return not file.endswith(".npz") and (not rest or (is_split(top) and "/" not in rest))


def list_loose_pictures(tree: Tree) -> Listing:
    """Every picture of the tree, at any depth, without a label. Folders named as splits are splits if they contain all
    pictures."""
    files = [file for file in tree.files if is_sample(file)]
    medium = medium_of_files(files)
    taken = tuple(file for file in files if medium.owns(file))
    tops = {file.partition("/")[0] for file in taken}
    splits = {top: SPLIT_NAMES[top.lower()] for top in sorted(tops)} if tops <= _split_folders(tree) else {}
    listing = Listing(
        name=tree.name,
        source=tree.where,
        kind=medium.name,
        annotation=InputsAsTargets.name,
        paths=taken,
        labels=("",) * len(taken),
        given=tuple(splits.get(file.partition("/")[0]) for file in taken),
        targets=None,
        read=lambda number: tree.read(taken[number]),
        ignored=tuple(sorted({*tree.files, *tree.hidden} - set(taken))),
        notes=(*tree.notes, *note_spellings(splits)),
    )
    refuse_other_than_images(listing)
    return listing


def _split_folders(tree: Tree) -> set[str]:
    return {top for top in tree.tops() if top.lower() in SPLIT_NAMES}
