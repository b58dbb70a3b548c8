"""Images as a medium; channels and size of inputs are decided before images are decoded."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import SOUND, VOLUME_ALONE, AugmentConfig, DataConfig
from striate.data.media.image.fitting import place_mask, placement
from striate.data.media.image.pictures import (
    MAX_PICTURE_BYTES,
    SUFFIXES,
    Header,
    PictureParts,
    decode_image,
    decode_mask,
    prepare_image,
    prepare_uncropped,
    refit,
)
from striate.data.media.image.raster_files import header_of
from striate.data.media.image.raster_plan import described_rasters, is_raster, plan_rasters, raster_findings
from striate.data.media.medium import Medium, Photographs, Placement, Planned, Preparation, as_array, channels_first
from striate.data.media.pixels import as_pixels
from striate.errors import ConfigError
from striate.records import Finding
from striate.wording import several, several_of, show_shape


@lru_cache(4096)
def _size(height: int, width: int) -> tuple[int, int]:
    """A shared (height, width): of a million files, few differ in size."""
    return height, width


def plan_images(source: str, inputs: NDArray[Any] | None, headers: Sequence[Header], config: DataConfig) -> Planned:
    """The preparation of inputs, notes on what was decided, and a finding if images must be resized.

    Without `config.size`, the most common size is used (the larger of two equally common ones); without
    `config.channels`, RGB if any image has color.
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
    size = config.size or _most_common(sizes)
    if config.size is None and len(sizes) > 1:
        notes.append(
            f"Size: {size[0]} × {size[1]} pixels (height × width), the most common of {several(len(sizes), 'size')}"
            f" ({sizes[size]:,} of {several(total, 'image')})."
        )
    channels = config.channels or (3 if colored else 1)
    if config.channels is None and 0 < colored < total:
        notes.append(f"Channels: 3 (RGB), since {several_of(colored, total, 'image', 'have')} color.")
    if channels == 1 and colored:
        notes.append(f"Color is dropped: {several_of(colored, total, 'image', 'are')} converted to gray.")
    preparation = Preparation(
        "image",
        (channels, *size),
        config.fit or "crop",
        config.max_pixels,
        config.layout,
        config.reduced_decoding,
        set(sizes) == {size},
    )
    other = total - sizes[size]
    return preparation, tuple(notes), (_resized(source, other, total, preparation),) if other else ()


def _resized(source: str, other: int, total: int, preparation: Preparation) -> Finding:
    how = {
        "crop": "the image is cropped to its center",
        "stretch": "the image is stretched",
        "pad": "the image is padded with black",
    }
    _, height, width = preparation.input_shape
    return Finding(
        code="data.resized",
        severity="note",
        where=source,
        measured=f"{several_of(other, total, 'image', 'are')} scaled to {height} × {width} pixels",
        threshold=f"{height} × {width} pixels",
        why=f"If the aspect ratio differs, {how[preparation.fit]} (data.fit {preparation.fit}).",
        remedy="If that loses too much, give another --size or another --data.fit: crop, stretch or pad.",
    )


LARGEST_MIXED, LARGEST_UNIFORM = 96, 224
"""Pixels of the longer side up to which inputs have the most common size: of several sizes, and of a single one."""


def _photographs(sizes: Counter[tuple[int, int]]) -> Photographs | None:
    usual = _most_common(sizes)
    if not sizes or max(usual) <= (LARGEST_MIXED if len(sizes) > 1 else LARGEST_UNIFORM):
        return None
    total = sizes.total()
    aspects = sorted(h / w for (h, w), n in sizes.items() for _ in range(n))
    low, middle, high = (aspects[int(q * (total - 1))] for q in (0.05, 0.5, 0.95))
    shorter = statistics.median_low([min(size) for size, n in sizes.items() for _ in range(n)])
    return Photographs(total, usual, len(sizes), shorter, middle if high <= 1.05 * low else 1.0)


def _most_common(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The most common size; the larger of two equally common ones."""
    return max(sizes, key=lambda s: (sizes[s], s[0] * s[1], s), default=(0, 0))


class Images(Medium):
    """Pictures in files, or arrays of bytes: (C, H, W) uint8, C = 1 for gray, 3 for RGB."""

    name: ClassVar[str] = "image"
    a: ClassVar[str] = "an image"
    many: ClassVar[str] = "images"
    values: ClassVar[str] = "pixels"
    dtype: ClassVar[str] = "uint8"
    suffixes: ClassVar[frozenset[str]] = SUFFIXES
    largest_file: ClassVar[int] = MAX_PICTURE_BYTES
    pictures: ClassVar[bool] = True
    takes_uncropped: ClassVar[bool] = True
    any_size: ClassVar[bool] = True
    stored: ClassVar[bool] = True
    convertible: ClassVar[tuple[int, ...]] = (1, 3)
    augmentations: ClassVar[frozenset[str]] = frozenset(AugmentConfig.__dataclass_fields__) - SOUND - VOLUME_ALONE
    settings: ClassVar[frozenset[str]] = frozenset(
        ("size", "channels", "pages", "fit", "max_pixels", "reduced_decoding")
    )
    others: ClassVar[tuple[str, ...]] = ("raster",)
    bounds: ClassVar[tuple[float, float]] = (0.0, 255.0)
    unit: ClassVar[str] = "levels of 0 to 255"

    def describe(self, shape: tuple[int, ...]) -> str:
        """Color, height and width."""
        return f"{'color' if shape[0] == 3 else 'gray'} images of {show_shape(shape[1:])} pixels"

    def header(self, data: bytes | Path, where: str, *, max_pixels: int) -> Header:
        """Size and color of a picture; for one from an instrument also depth, channels, pages and range."""
        return header_of(data, where, max_pixels=max_pixels)

    def described(self, headers: Sequence[Header]) -> str:
        """Sizes; for pictures from instruments also depths, channels, pages and range."""
        more = described_rasters(headers)
        return super().described(headers) + (f": {more}" if more else "")

    def size_of(self, header: Header) -> tuple[int, int]:
        """Height and width, with the EXIF orientation applied."""
        return _size(header.height, header.width)

    def placement(self, size: tuple[int, int], preparation: Preparation) -> Placement:
        """By the geometry of `fit`."""
        _, height, width = preparation.input_shape
        return placement(size, (height, width), preparation.fit)

    def photographs(self, headers: Sequence[Header]) -> Photographs | None:
        """Pictures of several sizes, the most common one larger than 96 pixels; or all of one size larger than 224."""
        return _photographs(Counter((header.height, header.width) for header in headers))

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[np.uint8]:
        """The picture at the size and in the colors of the inputs."""
        return decode_image(data, where, preparation)

    def read_mask(
        self,
        data: bytes | Path,
        where: str,
        header: Header | None = None,
        *,
        max_pixels: int = 64_000_000,
        colors: Sequence[tuple[int, int, int]] = (),
    ) -> NDArray[np.uint8]:
        """(H, W) values of a mask, which the picture has as values or as `colors`."""
        del header
        return decode_mask(data, where, max_pixels=max_pixels, colors=colors)

    def place_mask(self, mask: NDArray[np.uint8], header: Header | None, preparation: Preparation) -> NDArray[np.int16]:
        """By the geometry of `fit`."""
        del header
        _, height, width = preparation.input_shape
        return place_mask(mask, (height, width), preparation.fit)

    def refit(self, inputs: NDArray[Any], preparation: Preparation) -> NDArray[Any]:
        """Images in memory at the size and in the colors of the inputs."""
        channels, height, width = preparation.input_shape
        return refit(inputs, channels, (height, width), preparation.fit)

    def prepare(self, given: Any, preparation: Preparation) -> NDArray[Any]:
        """A path, a PIL image, or an array of the input's height and width, of bytes or of values that training reads
        as bytes; gray and RGB are converted to the colors of the inputs."""
        if isinstance(given, str | Path):
            return super().prepare(given, preparation)
        if hasattr(given, "getexif"):
            return prepare_image(given, "a PIL image", preparation)
        array = as_array(given)
        pixels = as_pixels(array) if array.size and array.dtype.kind in "uifb" else None
        if pixels is not None:
            shape = preparation.input_shape
            ordered = channels_first(pixels, shape[1:], (shape[0], *self.convertible))
            array = array if ordered is None else self.refit(ordered[None], preparation)[0]
        return super().prepare(array, preparation)

    def uncropped(
        self, given: Any, where: str, preparation: Preparation
    ) -> tuple[NDArray[Any], tuple[int, ...] | None]:
        """A file, its bytes or a PIL image, with its own aspect ratio; or an array of exactly the input's shape."""
        if isinstance(given, bytes | Path) or hasattr(given, "getexif"):
            return prepare_uncropped(given, where, preparation)
        return super().uncropped(given, where, preparation)

    def parts(self, path: Path, where: str, preparation: Preparation) -> PictureParts:
        """The picture, decoded once."""
        return PictureParts(path, where, preparation)

    def plan(self, source: str, inputs: NDArray[Any] | None, headers: Sequence[Header], config: DataConfig) -> Planned:
        """Channels and size of every input; for pictures from instruments also depth and range."""
        if inputs is not None or not is_raster(headers, config):
            preparation, notes, findings = plan_images(source, inputs, headers, config)
        else:
            plain = plan_images(source, None, headers, config)
            preparation, notes, findings = plan_rasters(plain, source, headers, config)
        return preparation, notes, (*findings, *raster_findings(source, headers, config))

    def decided(self, config: DataConfig, preparation: Preparation) -> DataConfig:
        """With size and channels."""
        channels, height, width = preparation.input_shape
        known = channels if channels in (1, 3) and preparation.pages == "first" else None
        pages = preparation.pages if preparation.kind == "raster" or config.pages else None
        return replace(config, size=(height, width), channels=known, pages=pages)  # type: ignore[arg-type]

    def check_augmentation(
        self, config: AugmentConfig, requested: Sequence[str], name: str, shape: tuple[int, ...]
    ) -> None:
        """All fields of pictures apply; shift and blur stay below the shorter side of the image."""
        super().check_augmentation(config, requested, name, shape)
        _, height, width = shape
        side = min(height, width)
        for field in ("shift", "blur"):
            value = getattr(config, field)
            if value is not None and value >= side:
                raise ConfigError(
                    f"augment.{field}",
                    f"{value:g} pixels for images of {height}×{width}",
                    "less than the shorter side of the image",
                    f"--augment.{field} {side // 8}",
                )

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """The pixels unchanged; None for other than one or three channels."""
        del preparation
        if raw.ndim != 3 or raw.shape[0] not in (1, 3) or raw.dtype != np.uint8:
            return None
        return raw[0] if raw.shape[0] == 1 else np.ascontiguousarray(np.moveaxis(raw, 0, -1))
