"""Samples become arrays: files decoded in a few threads, into one block of memory or wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from striate.data.dataset import Preparation
from striate.data.listing import Listing
from striate.data.media.image.fitting import place_mask
from striate.data.media.image.pictures import decode_mask, read_header
from striate.data.scan import Scan, content_digest, why_unreadable
from striate.data.store.blocks import ReadRow
from striate.data.store.stored import StoredInputs
from striate.data.threads import map_ordered
from striate.errors import DataError


@dataclass(frozen=True)
class Decoded:
    """Samples `ids` with `inputs` as in `Split`, as an array or stored; `masks` (N, H, W) int16 hold values of the
    source, -1 for border, and `mask_values` all values that occur before resizing. `unreadable`: reasons by id."""

    ids: np.ndarray
    inputs: np.ndarray | StoredInputs
    masks: np.ndarray | None
    mask_values: frozenset[int]
    unreadable: dict[int, str]


def decode_samples(
    listing: Listing, ids: Sequence[int], preparation: Preparation, progress: Callable[[int], None] = lambda _: None
) -> Decoded:
    """Decode the samples `ids` into memory; `progress` is told of every number of files that is done.

    Raises DataError where a mask is not as large as its image.
    """
    if listing.inputs is None:
        return _decode_files(listing, ids, preparation, progress)
    chosen = np.asarray(ids, dtype=np.int64)
    whole = len(chosen) == len(listing)  # ids are sorted: then nothing is left out and nothing need be copied
    inputs = listing.inputs if whole else listing.inputs[chosen]
    inputs = preparation.medium.refit(inputs, preparation)
    if listing.annotation != "mask":
        return Decoded(chosen, inputs, None, frozenset(), {})
    assert listing.targets is not None
    raw = listing.targets[chosen]
    masks = raw.astype(np.int16)
    if raw.shape[1:] != preparation.input_shape[1:]:
        masks = np.stack([place_mask(mask, preparation.input_shape[1:], preparation.fit) for mask in raw])  # type: ignore[arg-type]
    return Decoded(chosen, inputs, masks, frozenset(np.unique(raw).tolist()), {})


def row_reader(listing: Listing, scan: Scan, ids: Sequence[int], preparation: Preparation) -> ReadRow:
    """A function that decodes the sample `ids[row]` into an array, and says why it cannot, also where the file is not
    the one that was scanned."""

    def from_memory(row: int, out: np.ndarray) -> str | None:
        assert listing.inputs is not None
        out[...] = preparation.medium.refit(listing.inputs[ids[row]][None], preparation)[0]
        return None

    def from_file(row: int, out: np.ndarray) -> str | None:
        assert listing.read is not None
        number = ids[row]
        try:
            data = listing.read(number)
            if content_digest(data) != scan.contents[number]:
                return "not the file that it was: it has changed since the data were first looked at"
            out[...] = preparation.medium.decode(data, listing.paths[number], preparation)
        except (OSError, DataError) as error:
            return why_unreadable(error)
        return None

    return from_file if listing.inputs is None else from_memory


def _decode_files(
    listing: Listing, ids: Sequence[int], preparation: Preparation, progress: Callable[[int], None]
) -> Decoded:
    inputs = np.empty((len(ids), *preparation.input_shape), preparation.medium.dtype)
    masks = np.empty((len(ids), *preparation.input_shape[1:]), np.int16) if listing.read_mask else None

    def work(item: tuple[int, int]) -> tuple[str | None, frozenset[int]]:
        row, number = item
        try:
            assert listing.read is not None
            data = listing.read(number)
            inputs[row] = preparation.medium.decode(data, listing.paths[number], preparation)
            if masks is None:
                return None, frozenset()
            mask = _read_mask(listing, number, data, preparation)
            masks[row] = place_mask(mask, preparation.input_shape[1:], preparation.fit)  # type: ignore[arg-type]
            return None, frozenset(np.unique(mask).tolist())
        except _WrongSizeError:
            raise
        except (OSError, DataError) as error:
            return why_unreadable(error), frozenset()

    results = []
    for result in map_ordered(work, enumerate(ids)):
        results.append(result)
        progress(1)
    values = frozenset().union(*(found for _, found in results))
    unreadable = {number: why for number, (why, _) in zip(ids, results, strict=True) if why is not None}
    kept = np.array([why is None for why, _ in results], dtype=bool)
    chosen = np.asarray(ids, dtype=np.int64)
    if unreadable:
        inputs, chosen = inputs[kept], chosen[kept]
        masks = None if masks is None else masks[kept]
    return Decoded(chosen, inputs, masks, values, unreadable)


class _WrongSizeError(DataError):
    """A mask that is not as large as its image."""


def _read_mask(listing: Listing, number: int, data: bytes, preparation: Preparation) -> np.ndarray:
    assert listing.read_mask is not None
    where = listing.labels[number]
    mask = decode_mask(listing.read_mask(number), where, max_pixels=preparation.max_pixels)
    header = read_header(data, listing.paths[number], max_pixels=preparation.max_pixels)
    if mask.shape != (header.height, header.width):
        raise _WrongSizeError(
            f"data {listing.source}, mask {where}",
            f"{mask.shape[0]} × {mask.shape[1]} pixels (height × width)",
            f"{header.height} × {header.width}, as its image {listing.paths[number]}",
            "save the mask in the size of its image",
        )
    return mask
