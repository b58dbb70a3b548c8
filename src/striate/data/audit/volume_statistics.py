"""Statistics of volumes and their masks for `striate data check`: each volume is read completely.

The traits of a volume are its intensities on 16 × 16 × 16 cells, minus their mean, divided by their length. They do not
depend on gain, data type or file format.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from striate.data.audit.near_pairs import near_pairs
from striate.data.listing import Listing
from striate.data.media.volume.resampling import resample_linear
from striate.data.media.volume.volume_files import VolumeHeader, read_header, read_voxels
from striate.data.scan import mask_named, why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError
from striate.wording import show_shape

_CELLS = 16
ALIKE = 0.995
"""Volumes whose traits have at least this correlation are the same."""
MOST_COMPARED = 5_000
"""At most so many volumes are compared, in all pairs."""


@dataclass(frozen=True)
class VolumeStatistics:
    """Statistics of the N volumes that could be read. The keys of dicts are ids."""

    ids: tuple[int, ...]
    """Ids of the rows of `traits`."""
    traits: NDArray[np.float32]
    """(N, 4096), of length 1; 0 where a volume is constant."""
    masks: dict[int, frozenset[int]] = field(default_factory=dict)
    """The values that occur in each mask."""
    misfits: dict[int, str] = field(default_factory=dict)
    """Masks whose shape differs from that of their volume: both shapes, in words."""
    mask_headers: dict[int, VolumeHeader] = field(default_factory=dict)
    """Headers of the masks."""
    constant: tuple[int, ...] = ()
    """Ids of volumes whose voxels all have one value."""
    unreadable: dict[int, str] = field(default_factory=dict)
    """Why a volume cannot be read."""

    def alike(self) -> list[tuple[int, int]]:
        """Pairs of ids of the same volume."""
        return [(self.ids[a], self.ids[b]) for a, b in near_pairs(self.traits, ALIKE, MOST_COMPARED)]


def measure_volumes(
    listing: Listing, ids: Sequence[int], headers: Mapping[int, VolumeHeader], progress: Callable[[int], None]
) -> VolumeStatistics:
    """Read the volumes `ids` and their masks, in threads. `progress` is called with 1 after each."""

    def one(number: int) -> tuple[NDArray[np.float32], bool, NDArray[np.uint8] | None, VolumeHeader | None] | str:
        assert listing.read is not None
        try:
            voxels, header = read_voxels(listing.read(number), listing.paths[number])
            with np.errstate(over="ignore"):
                values = voxels.astype(np.float32)
            if not np.isfinite(values).all():
                return f"{int(values.size - np.isfinite(values).sum()):,} voxels are NaN or Inf"
            mask = mask_header = None
            if listing.read_mask is not None:
                where = listing.labels[number]
                with mask_named(where):
                    data = listing.read_mask(number)
                    mask, mask_header = listing.medium.read_mask(data, where, header), read_header(data, where)
        except (OSError, DataError) as error:
            return why_unreadable(error)
        return volume_traits(values), bool(values.min() == values.max()), mask, mask_header

    found: dict[int, NDArray[np.float32]] = {}
    statistics, constant = VolumeStatistics((), np.zeros((0, _CELLS**3), np.float32)), []
    for number, seen in zip(ids, map_ordered(one, ids), strict=True):
        progress(1)
        if isinstance(seen, str):
            statistics.unreadable[number] = seen
            continue
        found[number], flat, mask, mask_header = seen
        constant += [number] if flat else []
        if mask is None or mask_header is None:
            continue
        statistics.masks[number], statistics.mask_headers[number] = frozenset(np.unique(mask).tolist()), mask_header
        if mask.shape != headers[number].shape:
            of = f"its volume {show_shape(headers[number].shape)}"
            statistics.misfits[number] = f"{listing.labels[number]} has {show_shape(mask.shape)} voxels, {of}"
    rows = np.stack(list(found.values())) if found else statistics.traits
    return VolumeStatistics(
        tuple(found),
        rows,
        statistics.masks,
        statistics.misfits,
        statistics.mask_headers,
        tuple(constant),
        statistics.unreadable,
    )


def volume_traits(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(4096,) traits of the first channel, of length 1; zeros where it is constant."""
    small = resample_linear(values[:1], (_CELLS,) * 3).reshape(-1).astype(np.float64)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return (small / length if length > 1e-6 else 0 * small).astype(np.float32)


def spacings(headers: Mapping[int, VolumeHeader]) -> Counter[tuple[float, ...]]:
    """How many volumes have each spacing, rounded to hundredths of a millimeter."""
    return Counter(tuple(round(step, 2) for step in header.spacing) for header in headers.values() if header.spacing)
