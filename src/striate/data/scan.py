"""The first pass over all samples: digests of their contents, and their headers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from striate.data.annotations.annotation_kinds import annotation_kind
from striate.data.config import DataConfig
from striate.data.fingerprint import content_digest
from striate.data.listing import Listing
from striate.data.media.medium import (
    ChooseSize,
    Photographs,
    Placement,
    Planned,
    Preparation,
    Unreadable,
    WrongSizeError,
)
from striate.data.threads import map_ordered
from striate.errors import DataError


@dataclass(frozen=True)
class Scan:
    """Digests and headers of samples, by id, before anything is decoded."""

    contents: dict[int, bytes]
    """16-byte digests, equal for equal bytes."""
    labels: dict[int, object]
    """The class or number, or a digest of the mask."""
    headers: dict[int, Any]
    """Headers of readable files, whose type depends on the medium."""
    unreadable: dict[int, str]
    """Why a file cannot be read."""


def scan_listing(listing: Listing, ids: Sequence[int], max_pixels: int) -> Scan:
    """Read the samples `ids` once. A file that cannot be read is listed in `unreadable`; no error is raised."""
    if listing.inputs is not None:
        inputs = np.ascontiguousarray(listing.inputs)
        contents = {number: content_digest(inputs[number].data) for number in ids}
        return Scan(contents, annotation_kind(listing.annotation).label_keys(listing, ids), {}, {})
    found = map_ordered(lambda number: _scan_one(listing, number, max_pixels), ids, separate=len(ids))
    scan = Scan({}, {}, {}, {})
    for number, seen in zip(ids, found, strict=True):
        if isinstance(seen, str):
            scan.unreadable[number] = seen
            continue
        scan.contents[number], scan.headers[number], mask = seen
        scan.labels[number] = mask
    if listing.read_mask is None:
        readable = [number for number in ids if number in scan.contents]
        scan.labels.update(annotation_kind(listing.annotation).label_keys(listing, readable))
    return scan


def _scan_one(listing: Listing, number: int, max_pixels: int) -> tuple[bytes, Any, bytes] | str:
    assert listing.read is not None
    try:
        data = listing.read(number)
        header = listing.medium.header(data, listing.paths[number], max_pixels=max_pixels)
        return content_digest(data), header, content_digest(listing.read_mask(number)) if listing.read_mask else b""
    except (OSError, DataError) as error:
        return why_unreadable(error)


USUAL_SIDE = 128
"""Default side of photographs in pixels, where no time for training is known."""


def plan_inputs(listing: Listing, scan: Scan, config: DataConfig, choose_size: ChooseSize | None = None) -> Planned:
    """The preparation of inputs, which the medium decides from the headers; notes, and findings.

    `choose_size` decides the size of photographs if the configuration has none. Raises ConfigError."""
    listing.medium.refuse_settings(listing.source, config)
    headers, why = tuple(scan.headers.values()), []
    kind = annotation_kind(listing.annotation)
    config = replace(config, fit=config.fit or kind.fit)
    if config.size is None and listing.inputs is None and headers:
        known = {number: size for number, h in scan.headers.items() if (size := listing.medium.size_of(h)) is not None}
        if (chosen := kind.choose_size(listing, known)) is not None:
            config, why = replace(config, size=chosen[0]), [chosen[1]]
    if config.size is None and listing.inputs is None and kind.of_whole:
        found = listing.medium.photographs(headers)
        if found is not None:
            size, reason = (choose_size or _usual_size)(found)
            config, why = replace(config, size=size), [reason]
    if kind.of_whole and listing.inputs is None:
        config, coarser = listing.medium.coarser(headers, config)
        why += coarser
    config = replace(config, layout=listing.layout)
    preparation, notes, findings = listing.medium.plan(listing.source, listing.inputs, headers, config)
    return preparation, (*why, *notes), findings


def placements(listing: Listing, scan: Scan, preparation: Preparation) -> Callable[[int], Placement | None]:
    """Where the file of a sample, given by its id, lies in its input; None for samples without pixels or files."""

    def place(number: int) -> Placement | None:
        size = listing.medium.size_of(scan.headers[number]) if number in scan.headers else None
        return None if size is None else listing.medium.placement(size, preparation)

    return place


def _usual_size(found: Photographs) -> tuple[tuple[int, int], str]:
    return found.at(USUAL_SIDE), f"{found.sized(USUAL_SIDE)}; --size sets it."


@contextmanager
def mask_named(path: str) -> Iterator[None]:
    """Adds to errors while the mask at `path` is read that they are about the mask. Raises Unreadable,
    WrongSizeError."""
    try:
        yield
    except WrongSizeError:
        raise
    except (OSError, DataError) as error:
        raise Unreadable(path, f"mask {path}: {why_unreadable(error)}", "a mask that can be read") from None


def why_unreadable(error: OSError | DataError) -> str:
    """The reason in a few words."""
    if isinstance(error, Unreadable):
        return error.reason
    if isinstance(error, DataError):
        return error.got
    return error.strerror or str(error) or type(error).__name__
