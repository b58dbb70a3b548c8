"""Channels and size of every input, decided before images are decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from striate.data.config import DataConfig
from striate.data.media.image.pictures import Header
from striate.data.media.medium import Planned
from striate.data.preparation import Preparation
from striate.records import Finding


def plan_images(source: str, inputs: NDArray[Any] | None, headers: Sequence[Header], config: DataConfig) -> Planned:
    """The preparation of every input, notes on what was decided, and a finding where images must be resized.

    Without `config.size` the commonest size is taken (of two equally common ones the larger), without
    `config.channels` RGB if any image has color.
    """
    if inputs is not None:
        count, channels, height, width = inputs.shape
        sizes = Counter({(height, width): count})
        colored = count if channels == 3 else 0
    else:
        sizes = Counter((header.height, header.width) for header in headers)
        colored = sum(header.color for header in headers)
    return _plan(source, sizes, colored, config)


def _plan(source: str, sizes: Counter[tuple[int, int]], colored: int, config: DataConfig) -> Planned:
    total = sizes.total()
    notes = []
    size = config.size or max(sizes, key=lambda s: (sizes[s], s[0] * s[1], s))
    if config.size is None and len(sizes) > 1:
        notes.append(
            f"Size: {size[0]} × {size[1]} pixels (height × width), the commonest of {len(sizes)} sizes"
            f" ({sizes[size]:,} of {total:,} images)."
        )
    channels = config.channels or (3 if colored else 1)
    if config.channels is None and 0 < colored < total:
        notes.append(f"Channels: 3 (RGB), since {colored:,} of {total:,} images have color.")
    if channels == 1 and colored:
        notes.append(f"Color is dropped: {colored:,} of {total:,} images are turned to gray.")
    preparation = Preparation(
        "image", (channels, *size), config.fit, config.max_pixels, config.layout, config.reduced_decoding
    )
    other = total - sizes[size]
    return preparation, tuple(notes), (_resized(source, other, total, preparation),) if other else ()


def _resized(source: str, other: int, total: int, preparation: Preparation) -> Finding:
    how = {"crop": "the center is kept", "stretch": "the whole is stretched", "pad": "the rest is black"}
    _, height, width = preparation.input_shape
    return Finding(
        "data.resized",
        "note",
        source,
        f"{other:,} of {total:,} images are not {height} × {width} pixels and were scaled",
        f"{height} × {width} pixels",
        f"Where the aspect ratio differs, {how[preparation.fit]} (data.fit {preparation.fit}).",
        "Choose another size with --size, another fit with --data.fit crop, stretch or pad.",
    )
