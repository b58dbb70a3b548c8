"""Pictures from instruments: files with more than eight bits, other channels than gray and color, or several pages.

- **Depth**: bytes, signed and unsigned integers of 16 or 32 bits, and floating-point numbers, unchanged. PNG, PGM,
  JPEG 2000 (gray) and TIFF can have 16 bits; only TIFF can have the others. GDAL's value for no data, NaN and Inf
  become NaN.
- **Channels** of a TIFF, interleaved or in separate planes; alpha of 8 or 16 bits is composited over white.
- **Pages** of a TIFF: the first, or all of one size as channels. Smaller copies of a page (pyramids) and transparency
  masks do not count as pages.
- **Orientation** is applied.

Pillow reads the files that it does not reduce to eight bits; tifffile reads the others. A file with too many values is
refused by its header, before it is decoded; compressed data may not unpack to more than the header declares.
"""

from __future__ import annotations

import logging
import math
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.image.fitting import pixels_of
from striate.data.media.image.pictures import (
    TURNS,
    Header,
    UnreadableImage,
    explained,
    flatten,
    open_picture,
    read_bytes,
    read_header,
    turn_of,
)
from striate.wording import several

MOST_CHANNELS, MOST_PAGES = 1024, 4096
VALUES_A_PIXEL = 16
"""The limit of values of a file, as a multiple of the limit of pixels."""
SAMPLED = 4096
"""Values of a file that its header samples, to estimate the range of all files."""
EXTRA = "pip install 'striate[instruments]'"
DEPTHS = {
    **{"uint8": "8 bits", "uint16": "16 bits", "int16": "16 bits with a sign", "uint32": "32 bits"},
    **{"int8": "8 bits with a sign", "int32": "32 bits with a sign", "float16": "floating point of 16 bits"},
    **{"float32": "floating point", "float64": "floating point of 64 bits"},
}
"""The data types that are read, in words."""
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNG = b"\x89PNG\r\n\x1a\n"
_NODATA, _ORIENTATION = 42113, 274
_ALPHA = (1, 2)
_NO_COMPRESSION, _JPEG = 1, (6, 7)


@dataclass(frozen=True, eq=False)
class RasterHeader(Header):
    """The header of a picture from an instrument, with statistics of the values that were read."""

    depth: str = "uint8"
    """The data type: a key of DEPTHS."""
    channels: int = 1
    """Channels of a page."""
    low: float = 0.0
    """The least finite value."""
    high: float = 0.0
    """The largest finite value."""
    missing: int = 0
    """The number of values that are NaN or Inf."""
    values: int = 0
    """The number of values that were read."""
    sample: NDArray[np.float64] | None = None
    """(K, channels × pages) values of evenly spaced pixels; of one page where there are too many to read."""

    @property
    def plane(self) -> str:
        """`16 bits, 4 channels`."""
        return DEPTHS[self.depth] + ("" if self.channels == 1 else f", {several(self.channels, 'channel')}")


@dataclass(frozen=True)
class Raster:
    """The values of a picture from an instrument."""

    values: NDArray[Any]
    """(H, W, C), with the orientation applied; float64 where some are missing."""
    pages: int
    """The number of pages of the file."""
    depth: str
    """The data type: a key of DEPTHS."""


def header_of(data: bytes | Path, where: str, *, max_pixels: int) -> Header:
    """The header of a picture file. For a picture from an instrument it is a RasterHeader, for which values are read.
    Raises UnreadableImage."""
    data = read_bytes(data, where)
    if not may_be_raster(data):
        return read_header(data, where, max_pixels=max_pixels)
    if data.startswith(_TIFF):
        with _tiff(data, where) as pages:
            plain, count = _plain(pages[0]), len(pages)
        if plain:
            header = read_header(data, where, max_pixels=max_pixels)
            return Header(header.height, header.width, header.color, count)
    first = read_raster(data, where, max_pixels=max_pixels)
    every = first
    if 1 < first.pages <= MOST_CHANNELS and first.values.size * first.pages <= VALUES_A_PIXEL * max_pixels:
        with_all = _all_pages_or_none(data, where, max_pixels)
        every = first if with_all is None else with_all
    height, width, channels = first.values.shape
    flat = every.values.reshape(-1, every.values.shape[2])
    finite = flat if flat.dtype.kind in "iu" else flat[np.isfinite(flat)]
    if not finite.size:
        raise UnreadableImage(where, "a picture without valid values: all are NaN, Inf or no data")
    keep = max(16, SAMPLED // flat.shape[1])
    places = np.linspace(0, len(flat) - 1, min(keep, len(flat))).astype(np.int64)
    return RasterHeader(
        height,
        width,
        channels == 3,
        first.pages,
        depth=first.depth,
        channels=channels,
        low=float(finite.min()),
        high=float(finite.max()),
        missing=flat.size - finite.size,
        values=flat.size,
        sample=as_numbers(flat[places]).astype(np.float64),
    )


def _all_pages_or_none(data: bytes, where: str, max_pixels: int) -> Raster | None:
    try:
        return read_raster(data, where, max_pixels=max_pixels, all_pages=True)
    except UnreadableImage:
        return None


def may_be_raster(data: bytes) -> bool:
    """Whether the file is a TIFF, or has more than eight bits per value."""
    if data.startswith(_TIFF):
        return True
    if data.startswith(_PNG):
        return data[24:25] == b"\x10"
    if data[:2] in (b"P2", b"P3", b"P5", b"P6"):
        return _largest_of_pnm(data) > 255
    return _bits_of_jpeg_2000(data) > 8


def format_of(data: bytes) -> str:
    """Pillow's name of the format of a file that `may_be_raster`."""
    beginnings = {_TIFF: "TIFF", (_PNG,): "PNG", (b"P2", b"P3", b"P5", b"P6"): "PPM"}
    return next((name for begin, name in beginnings.items() if data.startswith(begin)), "JPEG2000")


def _largest_of_pnm(data: bytes) -> int:
    words = re.sub(rb"#[^\n]*", b" ", data[:4096]).split(maxsplit=4)
    return int(words[3]) if len(words) > 3 and words[3].isdigit() and len(words[3]) < 6 else 0


def _bits_of_jpeg_2000(data: bytes) -> int:
    if not data.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
        return 0
    at = data.find(b"\xff\x4f\xff\x51")
    return (data[at + 42] & 0x7F) + 1 if at >= 0 and len(data) > at + 42 else 0


def read_raster(data: bytes | Path, where: str, *, max_pixels: int, all_pages: bool = False) -> Raster:
    """The values of any picture; those of an ordinary picture are bytes. `all_pages`: pages of a TIFF become channels.
    Raises UnreadableImage."""
    data = read_bytes(data, where)
    if data.startswith(_TIFF):
        with _tiff(data, where) as pages:
            plain = _plain(pages[0])
            if not plain or (all_pages and len(pages) > 1):
                return _read_tiff(pages, data, where, max_pixels, all_pages=all_pages)
    if data.startswith(_PNG) and data[24:25] == b"\x10":
        return Raster(_read_png(data, where, max_pixels), 1, "uint16")
    with open_picture(data, where, max_pixels) as image:
        if image.mode == "RGB" and may_be_raster(data):
            raise UnreadableImage(
                where, f"a color {image.format} with more than 8 bits, of which only 8 could be read",
                "save it as PNG or TIFF",
            )  # fmt: skip
        values = raster_values(image, where)
        return Raster(values, 1, str(values.dtype))


def raster_values(image: Image.Image, where: str) -> NDArray[Any]:
    """(H, W, C) values of a Pillow image, upright: 16-bit and floating-point gray unchanged, all others as bytes."""
    image.load()
    if image.mode == "F":
        values: NDArray[Any] = np.asarray(image)
    elif image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int32)
        if values.min() < 0 or values.max() > 65535:
            raise UnreadableImage(where, f"32-bit values from {values.min()} to {values.max()}", "save it as TIFF")
        transparent = image.info.get("transparency")
        values = np.where(values == transparent, 65535, values) if isinstance(transparent, int) else values
        values = values.astype(np.uint16)
    else:
        values = pixels_of(flatten(image, where))
    values = values[..., None] if values.ndim == 2 else values
    return values if (turn := turn_of(image)) is None else transposed(values, turn.value)


def _read_png(data: bytes, where: str, max_pixels: int) -> NDArray[np.uint16]:
    """(H, W, C) values of a 16-bit PNG. Pillow reads one byte of two of color, so it decodes the file twice: the high
    bytes, then the low bytes."""
    with open_picture(data, where, max_pixels) as image:
        if image.mode not in ("RGB", "RGBA"):
            return raster_values(image, where)
        (name,) = {tile.args for tile in _tiles(image)}
    if name == "LA;16B":
        raise UnreadableImage(where, "a 16-bit gray PNG with alpha", "save it without alpha, or as TIFF")
    parts = []
    for order in ("B", "L"):
        with open_picture(data, where, max_pixels) as image:
            _tiles(image)[:] = [tile._replace(args=name[:-1] + order) for tile in _tiles(image)]
            image.load()
            parts.append(np.asarray(image).astype(np.uint16))
            turn, transparent = turn_of(image), image.info.get("transparency")
    values = over_white(256 * parts[0] + parts[1])
    if isinstance(transparent, tuple):
        values[(values == transparent).all(2)] = 65535
    return values if turn is None else transposed(values, turn.value)


def _tiles(image: Image.Image) -> list[Any]:
    """Pillow's list of what to decode, and how."""
    tiles: list[Any] = getattr(image, "tile")  # noqa: B009 — only pictures of files have it
    return tiles


def over_white(values: NDArray[Any]) -> NDArray[Any]:
    """(H, W, 1 or 3): integers with alpha as their last channel, composited over white; others unchanged."""
    if values.shape[2] not in (2, 4):
        return values
    most = float(np.iinfo(values.dtype).max)
    share = values[..., -1:] / most
    mixed: NDArray[Any] = np.rint(values[..., :-1] * share + most * (1 - share)).astype(values.dtype)
    return mixed


def transposed(values: NDArray[Any], transpose: int) -> NDArray[Any]:
    """(H, W, C) after one of Pillow's transpositions, by its number."""
    moves = {
        Image.Transpose.FLIP_LEFT_RIGHT: lambda a: a[:, ::-1],
        Image.Transpose.FLIP_TOP_BOTTOM: lambda a: a[::-1],
        Image.Transpose.ROTATE_180: lambda a: a[::-1, ::-1],
        Image.Transpose.TRANSPOSE: lambda a: a.swapaxes(0, 1),
        Image.Transpose.TRANSVERSE: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        Image.Transpose.ROTATE_90: lambda a: np.rot90(a),
        Image.Transpose.ROTATE_270: lambda a: np.rot90(a, -1),
    }
    return np.ascontiguousarray(moves[Image.Transpose(transpose)](values))


def as_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Integers of up to 16 bits as float32, which is exact; others as float64, with NaN for Inf."""
    if values.dtype.kind in "iu":
        return values.astype(np.float32 if values.dtype.itemsize <= 2 else np.float64)
    numbers = values.astype(np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


# TIFF


@cache
def _tifffile() -> Any:
    import tifffile

    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # errors here report damaged files
    return tifffile


@contextmanager
def _tiff(data: bytes, where: str) -> Iterator[list[Any]]:
    """The pages of a TIFF that are separate pictures."""
    with explained(where, data):
        count = _count_pages(data, where)
        with _tifffile().TiffFile(BytesIO(data)) as file:
            pages = [page for k in range(count) if not (page := file.pages[k]).subfiletype & 5]
            if not pages:
                raise UnreadableImage(where, "a TIFF without a page")
            yield pages


def _count_pages(data: bytes, where: str) -> int:
    """The number of pages, by following the directories. Raises UnreadableImage for too many, since tifffile would
    follow millions."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, word, count, entry = ("Q", 8, "Q", 20) if big else ("I", 4, "H", 12)
    (at,) = struct.unpack_from(order + offset, data, 8 if big else 4)
    seen: set[int] = set()
    while at and at not in seen and at + struct.calcsize(count) <= len(data):
        seen.add(at)
        if len(seen) > MOST_PAGES:
            raise UnreadableImage(where, f"a TIFF of more than {MOST_PAGES:,} pages", "save fewer pages in a file")
        (entries,) = struct.unpack_from(order + count, data, at)
        after = at + struct.calcsize(count) + entries * entry
        if after + word > len(data):
            break
        (at,) = struct.unpack_from(order + offset, data, after)
    return len(seen)


def _plain(page: Any) -> bool:
    """Whether it is an ordinary picture, which Pillow reads without loss."""
    if str(page.dtype) not in ("uint8", "bool", "None") or page.bitspersample > 8:
        return False
    extra = tuple(int(kind) for kind in page.extrasamples)
    colors = {2: (3,), 5: (4,), 6: (3,), 8: (3,)}.get(int(page.photometric or 0), (1,))
    return page.samplesperpixel - len(extra) in colors and (not extra or (len(extra) == 1 and extra[0] in _ALPHA))


def _read_tiff(pages: list[Any], data: bytes, where: str, max_pixels: int, *, all_pages: bool) -> Raster:
    wanted = pages if all_pages else pages[:1]
    first = pages[0]
    if any((page.shape, page.dtype) != (first.shape, first.dtype) for page in wanted):
        raise UnreadableImage(where, "pages of several sizes or types, which cannot be channels", "--data.pages first")
    values = np.concatenate([_page(page, data, where, max_pixels, len(wanted)) for page in wanted], axis=2)
    tag = first.tags.get(_ORIENTATION)
    upright = TURNS.get(int(tag.value)) if tag is not None and isinstance(tag.value, int) else None
    return Raster(values if upright is None else transposed(values, upright.value), len(pages), str(first.dtype))


def _page(page: Any, data: bytes, where: str, max_pixels: int, count: int) -> NDArray[Any]:
    """(H, W, C) values of a page."""
    axes, shape, depth = page.axes, tuple(page.shape), str(page.dtype)
    if sorted(axes) not in (["X", "Y"], ["S", "X", "Y"]):
        raise UnreadableImage(where, f"a TIFF with the axes {axes}", "save a page for each depth")
    if depth not in DEPTHS:
        raise UnreadableImage(where, f"a TIFF of {depth} values", f"save it as one of {', '.join(DEPTHS)}")
    pixels = page.imagelength * page.imagewidth
    if pixels > max_pixels:
        raise UnreadableImage(
            where,
            f"{page.imagewidth} × {page.imagelength} = {pixels:,} pixels, more than the {max_pixels:,} allowed",
            f"make it smaller, or allow it with --data.max_pixels {pixels}",
        )
    total, channels = math.prod(shape) * count, count * math.prod(shape) // max(1, pixels)
    if not pixels or channels > MOST_CHANNELS or total > VALUES_A_PIXEL * max_pixels:
        got = f"{several(channels, 'channel')} of {pixels:,} pixels"
        raise UnreadableImage(where, got, f"up to {MOST_CHANNELS:,} channels; --data.pages first reads one page")
    if math.prod(page.chunks) > 4 * max(math.prod(shape), 1 << 16):
        raise UnreadableImage(where, f"tiles of {page.chunks} values for a picture of {shape}")
    if int(page.photometric or 0) == 3:
        raise UnreadableImage(where, f"a palette of {DEPTHS[depth]}", "save it in color")
    values = _decoded(page, data, where)
    values = np.moveaxis(values, 0, -1) if axes.startswith("S") else values
    values = values[..., None] if values.ndim == 2 else values
    extra = tuple(int(kind) for kind in page.extrasamples)
    if len(extra) == 1 and extra[0] in _ALPHA and depth in ("uint8", "uint16") and values.shape[2] in (2, 4):
        values = over_white(values)
    none = page.tags.get(_NODATA)
    if none is not None:
        values = _without(values, none.value)
    return values


def _decoded(page: Any, data: bytes, where: str) -> NDArray[Any]:
    if int(page.compression) in _JPEG:
        raise UnreadableImage(
            where, "a JPEG-compressed TIFF with more than 8 bits or 3 channels", "save it with lossless compression"
        )
    if int(page.compression) != _NO_COMPRESSION and find_spec("imagecodecs") is None:
        with Image.open(BytesIO(data), formats=("TIFF",)) as image:  # Pillow reads gray without loss
            if page.index == 0 and (image.mode == "F" or image.mode.startswith("I;16")):
                return np.asarray(image)
        name = getattr(page.compression, "name", page.compression)
        raise UnreadableImage(where, f"a TIFF compressed by {name}, which imagecodecs reads", EXTRA)
    expected = math.prod(page.shape) * page.dtype.itemsize
    if int(page.compression) == _NO_COMPRESSION and sum(page.databytecounts) < expected:
        raise UnreadableImage(where, "cut off: the file ends before the picture does")
    if any(a + n > len(data) for a, n in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise UnreadableImage(where, "cut off: the file ends before the picture does")
    values: NDArray[Any] = page.asarray(maxworkers=1)
    return values


def _without(values: NDArray[Any], text: Any) -> NDArray[Any]:
    """The values with NaN in place of GDAL's number for no data; integers become float64 then."""
    try:
        none = float(str(text).strip("\0 "))
    except ValueError:
        return values
    missing = values == (values.dtype.type(none) if values.dtype.kind == "f" else none)
    return np.where(missing, np.nan, values) if missing.any() else values
