"""A sample of a named data set as a picture: `mnist5k#17`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from striate.errors import DataError
from striate.visualize.picture import Picture, read_picture_bytes

if TYPE_CHECKING:
    from striate.data.listing import Listing


def names_sample(text: str) -> bool:
    """Whether the text is `NAME#NUMBER`, or means that: a data set's name, without a number too; and not a file."""
    from striate.data.named import info

    name, _, number = text.partition("#")
    meant = info(name) is not None or (name and number.isascii() and number.isdigit())
    return bool(meant) and not Path(text).is_file()


def sample_picture(text: str, announce: Callable[[str], None] | None = None) -> Picture:
    """The sample of that number (in the order of split.csv, from 0) of a named set, with its label as a note.

    Raises DataError where there is no such set or sample, or it holds no images.
    """
    from striate.data.config import DataConfig
    from striate.data.media.every import medium_of
    from striate.data.named import catalogue, info
    from striate.data.sources.choose import list_source

    name, mark, digits = text.partition("#")
    entry = info(name)
    if entry is None:
        images = ", ".join(known.name for known in catalogue() if medium_of(known.kind).pictures)
        raise DataError(text, f"no data set named {name!r}, and no such file", images, "striate pixels mnist5k#17")
    if not medium_of(entry.kind).pictures:
        raise DataError(
            text, f"{medium_of(entry.kind).a}, no images", "a data set of images", "striate pixels mnist5k#17"
        )
    if not (digits.isascii() and digits.isdigit()):
        got = f"the number {digits[:20]!r}" if mark else f"the data set {name}, without the number of a sample"
        raise DataError(text[:80], got, "a whole number from 0", f"striate pixels {name}#0")
    listing = list_source(DataConfig(name), None, announce)
    number = int(digits) if len(digits) < 12 else len(listing)
    if number >= len(listing):
        remedy = f"striate pixels {name}#{len(listing) - 1}"
        raise DataError(text, f"{len(listing):,} samples", f"a number from 0 to {len(listing) - 1}", remedy)
    label = listing.labels[number] if number < len(listing.labels) else ""
    read = listed_picture(listing, number)
    return replace(read, notes=(f"{text} is a picture of: {label}", *read.notes))


def listed_picture(listing: Listing, number: int) -> Picture:
    """The sample of that number of a listing of images, as its file is. Raises UnreadableImage; OSError where its file
    has gone."""
    if listing.inputs is not None:
        return Picture(np.ascontiguousarray(np.moveaxis(listing.inputs[number], 0, -1)))
    assert listing.read is not None
    return read_picture_bytes(listing.read(number), listing.paths[number])
