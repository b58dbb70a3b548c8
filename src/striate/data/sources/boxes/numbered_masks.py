"""Boxes of masks whose values number the objects of each image: images/ and masks/, 8 or 16 bit, 0 for background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from striate.data.box_records import Box, Boxed
from striate.data.listing import Listing
from striate.data.media.image.pictures import open_picture, turn_of
from striate.data.sources.boxes.make_listing import box_listing
from striate.data.sources.mask_folders import list_masks
from striate.data.sources.tree import Tree, read_whole
from striate.data.threads import map_ordered
from striate.errors import DataError

OBJECT = "object"
"""The class of all objects: their numbers name none."""
_MOST = 65535


def list_numbered_masks(tree: Tree, max_pixels: int) -> Listing:
    """Every image with the boxes around the values of its mask. Raises DataError for a mask that cannot be read."""
    listing = list_masks(tree)
    found = dict(
        zip(listing.paths, map_ordered(lambda file: _boxed(tree, file, max_pixels), listing.labels), strict=True)
    )
    given = dict(zip(listing.paths, listing.given, strict=True))
    boxed = {path: (one, given[path]) for path, one in found.items()}
    note = "Each value of a mask but 0 is an object: boxes around them."
    return box_listing(tree, boxed, used=listing.labels, notes=(note,))


def _boxed(tree: Tree, file: str, max_pixels: int) -> Boxed:
    data = read_whole(tree, file)
    with open_picture(data, file, max_pixels) as image:
        image.load()
        turn = turn_of(image)
        values: NDArray[np.int64] = np.asarray(image if turn is None else image.transpose(turn)).astype(np.int64)
    if values.ndim != 2 or values.min() < 0 or values.max() > _MOST:
        got = f"a mask of {values.shape[2] if values.ndim > 2 else 1} channels, up to {values.max()}"
        raise DataError(f"{tree.where}/{file}", got, f"numbers of objects, 0 to {_MOST}", "save it as a gray PNG")
    boxes = [
        Box((float(at[1].start), float(at[0].start), float(at[1].stop), float(at[0].stop)), OBJECT, line=number)
        for number, at in enumerate(find_objects(values), 1)
        if at is not None
    ]
    return Boxed(tuple(boxes), str(Path(file)), (values.shape[0], values.shape[1]))
