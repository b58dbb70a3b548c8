"""Decoding samples: files are decoded in a few threads, into one block of memory, or row by row into a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from striate.data.annotations.mask_pixels import MaskPixels
from striate.data.fingerprint import content_digest
from striate.data.listing import Listing
from striate.data.media.every_medium import medium_of
from striate.data.media.medium import Preparation, WrongSizeError
from striate.data.processes import may_fork, shared_empty
from striate.data.scan import Scan, mask_named, why_unreadable
from striate.data.store.stored import ReadRow, StoredInputs
from striate.data.threads import map_ordered
from striate.errors import DataError

_CHANGED = "the file has changed since the data were first read"


@dataclass(frozen=True)
class Decoded:
    """Decoded samples."""

    ids: NDArray[np.int64]
    """(N,) ids of the readable samples, in the order in which they were requested; ascending if some are unreadable."""
    inputs: np.ndarray | StoredInputs
    """(N, …) as in `Split`."""
    masks: MaskPixels | None
    """None where samples have no masks."""
    unreadable: dict[int, str]
    """Why a sample cannot be read, by id."""


def decode_samples(
    listing: Listing, ids: Sequence[int], preparation: Preparation, progress: Callable[[int], None] = lambda _: None
) -> Decoded:
    """Decode the samples `ids` into memory. `progress` is called with the number of files that were decoded since its
    last call.

    Raises DataError for a mask whose size differs from that of its image.
    """
    if listing.inputs is None:
        return _decode_files(listing, ids, preparation, progress)
    chosen = np.asarray(ids, dtype=np.int64)
    whole = len(chosen) == len(listing)  # ids are sorted, so nothing is left out and nothing has to be copied
    inputs = listing.inputs if whole else listing.inputs[chosen]
    return Decoded(
        chosen, medium_of(preparation.kind).refit(inputs, preparation), array_masks(listing, ids, preparation), {}
    )


def array_masks(listing: Listing, ids: Sequence[int], preparation: Preparation) -> MaskPixels | None:
    """The masks of samples in memory; None where there are none."""
    if listing.inputs is None or listing.annotation != "mask":
        return None
    assert listing.targets is not None
    masks, medium = MaskPixels.empty(len(ids), preparation), medium_of(preparation.kind)
    for row, number in enumerate(ids):
        mask = listing.targets[number]
        masks.place(row, mask, medium.place_mask(mask, None, preparation))
    return masks


def row_reader(listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation) -> ReadRow:
    """A function that decodes the sample `ids[row]` into an array, and returns why it cannot, also if the file has
    changed since it was scanned."""
    medium = medium_of(preparation.kind)

    def from_memory(row: int, out: np.ndarray) -> str | None:
        assert listing.inputs is not None
        out[...] = medium.refit(listing.inputs[ids[row]][None], preparation)[0]
        return None

    def from_file(row: int, out: np.ndarray) -> str | None:
        assert listing.read is not None
        number = ids[row]
        try:
            data = listing.read(number)
            if content_digest(data) != scan.contents[number]:
                return _CHANGED
            out[...] = medium.decode(data, listing.paths[number], preparation)
        except (OSError, DataError) as error:
            return why_unreadable(error)
        return None

    return from_file if listing.inputs is None else from_memory


def mask_reader(
    listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation
) -> Callable[[int, MaskPixels, int], str | None]:
    """A function that decodes the mask of the sample `ids[row]` into row `at` of masks, and returns why it cannot, like
    `row_reader`; it raises DataError for a mask whose size differs from that of its image."""
    read_image = row_reader(listing, scan, ids, preparation)

    def read(row: int, masks: MaskPixels, at: int) -> str | None:
        assert listing.read_mask is not None
        number = ids[row]
        try:
            data = listing.read_mask(number)
            if content_digest(data) != scan.labels[number]:
                return f"mask {listing.labels[number]}: {_CHANGED}"
            with mask_named(listing.labels[number]):
                masks.place(at, *_decode_mask(listing, number, data, scan.headers[number], preparation))
        except WrongSizeError:
            if (why := read_image(row, np.empty(preparation.input_shape, _dtype(preparation)))) is None:
                raise
            return why  # an image that cannot be read needs no mask
        except (OSError, DataError) as error:
            return why_unreadable(error)
        return None

    return read


def read_masks(
    listing: Listing,
    scan: Scan,
    ids: Sequence[int],
    preparation: Preparation,
    progress: Callable[[int], None] = lambda _: None,
) -> tuple[MaskPixels, dict[int, str]]:
    """The masks of the files `ids` in memory, and reasons by row for those that cannot be read.

    Raises DataError for a mask whose size differs from that of its image.
    """
    masks, read = MaskPixels.empty(len(ids), preparation), mask_reader(listing, scan, ids, preparation)
    unreadable = {}
    for row, why in enumerate(map_ordered(lambda row: read(row, masks, row), range(len(ids)))):
        if why is not None:
            unreadable[row] = why
        progress(1)
    return masks, unreadable


def _decode_files(
    listing: Listing, ids: Sequence[int], preparation: Preparation, progress: Callable[[int], None]
) -> Decoded:
    medium = medium_of(preparation.kind)
    masks = MaskPixels.empty(len(ids), preparation) if listing.read_mask else None
    separate = masks is None and may_fork()
    inputs = (shared_empty if separate else np.empty)((len(ids), *preparation.input_shape), medium.dtype)

    def work(item: tuple[int, int]) -> str | None:
        row, number = item
        try:
            assert listing.read is not None
            data = listing.read(number)
            inputs[row] = medium.decode(data, listing.paths[number], preparation)
            if masks is not None and listing.read_mask is not None:
                header = medium.header(data, listing.paths[number], max_pixels=preparation.max_pixels)
                with mask_named(listing.labels[number]):
                    masks.place(row, *_decode_mask(listing, number, listing.read_mask(number), header, preparation))
        except WrongSizeError:
            raise
        except (OSError, DataError) as error:
            return why_unreadable(error)
        return None

    results = []
    for result in map_ordered(work, enumerate(ids), separate=len(ids) if separate else 0):
        results.append(result)
        progress(1)
    unreadable = {number: why for number, why in zip(ids, results, strict=True) if why is not None}
    chosen = np.asarray(ids, dtype=np.int64)
    if unreadable:  # the splits of the others may change, so they are ordered by id, as in the other stores
        rows = np.flatnonzero([why is None for why in results])
        rows = rows[np.argsort(chosen[rows])]
        inputs, chosen = inputs[rows], chosen[rows]
        masks = None if masks is None else masks.take(rows)
    return Decoded(chosen, inputs, masks, unreadable)


def _dtype(preparation: Preparation) -> str:
    return medium_of(preparation.kind).dtype


def _decode_mask(
    listing: Listing, number: int, data: bytes, header: Any, preparation: Preparation
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    """The mask in the orientation of the file with this header, and on the grid of the inputs."""
    where, medium = listing.labels[number], listing.medium
    mask = medium.read_mask(data, where, header, max_pixels=preparation.max_pixels, colors=listing.colors)
    size = medium.mask_size(header)
    if size is not None and mask.shape != size:
        axes = "depth × height × width" if mask.ndim == 3 else "height × width"
        raise WrongSizeError(
            f"data {listing.source}, mask {where}",
            f"{' × '.join(map(str, mask.shape))} {medium.values} ({axes})",
            f"{' × '.join(map(str, size))}, as its image {listing.paths[number]}",
            "save the mask with the size of its image",
        )
    return mask, medium.place_mask(mask, header, preparation)
