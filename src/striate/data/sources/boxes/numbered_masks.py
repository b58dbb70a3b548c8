"""Objects from masks whose values number the objects of an image: images/ and masks/, 8 or 16 bits, 0 for
background."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.masks import number_objects
from striate.data.box_records import Box, ImageBoxes
from striate.data.listing import Listing
from striate.data.mask_codes import encode_part
from striate.data.media.image.pictures import open_picture, turn_of
from striate.data.media.medium import Unreadable
from striate.data.sources.boxes.make_listing import box_listing
from striate.data.sources.mask_folders import list_masks
from striate.data.sources.tree import Tree, read_required
from striate.data.threads import map_ordered
from striate.errors import DataError, pasted
from striate.wording import listed

OBJECT = "object"
"""The class of all objects, since their numbers do not name classes."""
_MOST = 65535
_LOOKED_AT = 40


def number_the_objects(tree: Tree, max_pixels: int) -> bool:
    """Whether the masks of a tree certainly number objects, by some of them; False where values have names."""
    listing = list_masks(tree)
    if listing.values or not listing.medium.pictures:
        return False
    chosen = listing.labels[:: -(-len(listing.labels) // _LOOKED_AT)]
    values = []
    for file in chosen:
        try:
            values.append(set(np.unique(_values(tree, file, max_pixels)).tolist()))
        except Unreadable:
            continue  # reported when all are read
        except DataError:  # for example colors
            return False
    return number_objects(values)


def list_numbered_masks(tree: Tree, max_pixels: int, *, outlines: bool = False) -> Listing:
    """Every image with boxes around the values of its mask; `outlines`: with the masks of the objects too. Raises
    DataError where values have names, and for a mask that cannot be read."""
    listing = list_masks(tree)
    if listing.values:
        names = "colors.txt" if listing.colors else "classes.txt"
        raise DataError(
            f"data {tree.where}",
            f"masks whose values are classes: {names} names {listed(listing.classes)}",
            "masks whose values number the objects of an image, 0 for background",
            f"striate train {pasted(tree.where)} learns the classes; if values number objects, take {names} away",
        )
    found = dict(
        zip(
            listing.paths,
            map_ordered(lambda file: _boxed(tree, file, max_pixels, outlines), listing.labels),
            strict=True,
        )
    )
    given = dict(zip(listing.paths, listing.given, strict=True))
    boxed = {path: (one, given[path]) for path, one in found.items()}
    note = "Each nonzero value of a mask is an object" + ("." if outlines else ": boxes are drawn around them.")
    kind = "instance" if outlines else "box"
    return box_listing(tree, boxed, used=listing.labels, notes=(note,), annotation=kind)


def _values(tree: Tree, file: str, max_pixels: int) -> NDArray[np.int64]:
    """(H, W) numbers of a mask, with the EXIF orientation applied. Raises DataError for a picture of other values."""
    data = read_required(tree, file)
    with open_picture(data, file, max_pixels) as image:
        image.load()
        turn = turn_of(image)
        values: NDArray[np.int64] = np.asarray(image if turn is None else image.transpose(turn)).astype(np.int64)
    if values.ndim != 2 or values.min() < 0 or values.max() > _MOST:
        got = f"a mask of {values.shape[2] if values.ndim > 2 else 1} channels, up to {values.max()}"
        raise DataError(f"{tree.where}/{file}", got, f"numbers of objects, 0 to {_MOST}", "save it as a gray PNG")
    return values


def _boxed(tree: Tree, file: str, max_pixels: int, outlines: bool) -> ImageBoxes:
    values = _values(tree, file, max_pixels)
    size = (values.shape[0], values.shape[1])
    from scipy.ndimage import find_objects

    places: list[Any] = find_objects(values)  # None for a number that does not occur
    boxes = [_object(values, number, at[0], at[1], outlines) for number, at in enumerate(places, 1) if at is not None]
    return ImageBoxes(tuple(boxes), str(Path(file)), size)


def _object(values: NDArray[np.int64], number: int, rows: slice, columns: slice, outline: bool) -> Box:
    """The object of one value of a mask (H, W), which lies in these rows and columns."""
    edges = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
    size, mask = (values.shape[0], values.shape[1]), None
    if outline:
        mask = encode_part(values[rows, columns] == number, (rows.start, columns.start), size)
    return Box(edges, OBJECT, line=number, mask=mask)
