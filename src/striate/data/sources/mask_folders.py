"""Folders of images with a mask each: images/ and masks/, with or without train/, val/, test/ above."""

from __future__ import annotations

from pathlib import PurePosixPath

from striate.data.listing import Listing, is_split
from striate.data.media.every_medium import medium_of
from striate.data.sources.class_folders import given_splits, note_spellings
from striate.data.sources.other_layouts import instead_of_pictures, linked_pairs
from striate.data.sources.tree import Tree, summarize_suffixes
from striate.errors import DataError
from striate.wording import several

_PAIR = {"images", "masks"}


def holds_masks(tree: Tree) -> bool:
    """Whether images/ and masks/ lie under the root, or under a split folder."""
    tops, folders = tree.tops(), set(tree.folders)
    return tops >= _PAIR or any({f"{top}/images", f"{top}/masks"} <= folders for top in tops if is_split(top))


def list_masks(tree: Tree) -> Listing:
    """Every picture under images/ with the picture of the same stem under masks/.

    Raises DataError where an image has no mask or two, or where a split folder has no images/.
    """
    splits = {} if tree.tops() >= _PAIR else given_splits(tree, "the folders images/ and masks/")
    depth = 1 if splits else 0
    for top in splits:
        if f"{top}/images" not in tree.folders:
            raise DataError(
                f"data {tree.where}", f"{top}/ without images/", "images/ and masks/ in every split", "add the folder"
            )
    image = medium_of("image")
    images: dict[tuple[str, str], str] = {}
    masks: dict[tuple[str, str], str] = {}
    ignored = list(tree.hidden)
    for file in tree.files:
        parts = file.split("/")
        side = {"images": images, "masks": masks}.get(parts[depth] if len(parts) > depth + 1 else "")
        if side is None or not image.owns(file):
            ignored.append(file)
            continue
        stem = PurePosixPath(*parts[depth + 1 :]).with_suffix("").as_posix()
        split = splits.get(parts[0], "")
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
    )


def _check_pairs(tree: Tree, images: dict[tuple[str, str], str], masks: dict[tuple[str, str], str]) -> None:
    if not images:
        raise DataError(
            f"data {tree.where}",
            f"no picture in images/, {len(masks)} in masks/, {summarize_suffixes(tree.files)} in all",
            "pictures in images/ and a mask of the same stem in masks/",
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
            "for every image a mask of the same stem in masks/",
            "add their masks" + (f"; or without these images: {links}" if links else ""),
        )
