"""Picture files as bytes, by these rules.

- **Formats**: JPEG, PNG, GIF, BMP, TIFF, WebP, PPM/PGM/PBM, JPEG 2000 and AVIF, and with the extra `heic` HEIC,
  recognized by content. Of an animation or a multi-page file the first picture is taken, which is a finding.
- **Orientation** in EXIF is applied.
- **Alpha**, also in palettes and as a single transparent color, is composited over white.
- **16-bit gray** is scaled by 1/257 and rounded, so that 65535 becomes 255; 32-bit integers are read on the same
  scale; floating-point pictures are read as 0 to 1. Values outside those ranges make a picture unreadable: a guess
  would be silent. Of 16-bit color Pillow reads the high byte. These rules let a network of ordinary pictures read such
  files; data of such files are another medium, with all bits: `raster_medium.py`.
- **Color** of CMYK, YCbCr, LAB and palettes becomes RGB as Pillow converts it (no embedded profile is applied).
- **Gray from color** is ITU-R 601 luma (Pillow's mode L); RGB from gray repeats the value.
- **Size**: see `fitting.py`; large JPEGs may be decoded at a part of theirs, see `jpeg.py`.

A picture that is cut off is refused, never filled with gray. A picture with too many pixels is refused by its header,
before it is decoded; so are files larger than any such picture, and JPEGs with very many scans.
"""

from __future__ import annotations

import re
import stat
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from striate.data.config import Fit
from striate.data.media.image.fitting import Reduced, pixels_of, place_picture, place_reduced, uncropped_size
from striate.data.media.image.jpeg import decode_plain_jpeg, plain_jpeg_header, reduce_decoding
from striate.data.media.medium import MOST_TILED_PIXELS, REPLACE, Preparation, Unreadable
from striate.wording import several

_lock = threading.Lock()
_inside = 0
_silence = warnings.catch_warnings()
_pixel_limit: int | None = None


@contextmanager
def pillow_ours() -> Iterator[None]:
    """Turns off Pillow's warnings and its pixel limit (striate's is checked instead), and restores them at the end.

    Both are global, so concurrent threads share one change: the first makes it, the last undoes it.
    """
    global _inside, _silence, _pixel_limit
    with _lock:
        if _inside == 0:
            _silence = warnings.catch_warnings()
            _silence.__enter__()
            warnings.simplefilter("ignore")
            _pixel_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                Image.MAX_IMAGE_PIXELS = _pixel_limit
                _silence.__exit__(None, None, None)


SUFFIXES = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
        *(".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".hif"),
    )
)
"""Suffixes (lower case) of picture files."""

MAX_PICTURE_BYTES = 1 << 29
"""A larger picture file is refused: this is eight bytes for each of 64 million pixels."""
MOST_SCANS = 500
"""A JPEG with more scans is refused: cameras write 1, progressive JPEGs about 10. A scan of a few bytes costs as much
time as the whole picture."""

_SCAN = re.compile(b"\xff\xda")  # never occurs within the data of a scan
# An explicit list: Pillow's other formats run programs (EPS), or accept nearly any bytes (TGA).
_FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_HEIC_EXTRA = "pip install 'striate[heic]'"
_COLOR_MODES = frozenset(("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV"))
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes a picture upright, by its EXIF orientation."""
_ORIENTATION = 0x0112
_TURNED = frozenset(TURNS[number] for number in (5, 6, 7, 8))


class UnreadableImage(Unreadable):
    """A picture that cannot be read."""

    def __init__(
        self,
        where: str,
        reason: str,
        remedy: str = REPLACE,
        expected: str = "a complete picture (JPEG, PNG, GIF, BMP, TIFF, WebP, PPM, JPEG 2000, AVIF)",
    ) -> None:
        super().__init__(where, reason, expected, remedy)


@dataclass(frozen=True)
class Header:
    """The header of a picture."""

    height: int
    """Pixels, with the EXIF orientation applied."""
    width: int
    """Pixels, with the EXIF orientation applied."""
    color: bool
    """Whether it has color."""
    pages: int = 1
    """Number of pages; 2 for any animation."""
    squeezed: int = 0
    """Bits of a value in the file, where only eight of them are read; else 0."""


_plain_header = lru_cache(4096)(Header)
"""Shares equal headers: of a million files, few differ."""


def read_header(data: bytes | Path, where: str, *, max_pixels: int = 64_000_000) -> Header:
    """Size and color of a picture; pixels are decoded only for palettes, whose colors decide.

    Raises UnreadableImage.
    """
    data = read_bytes(data, where)
    if _few_scans(data) and (plain := plain_jpeg_header(data)) is not None and 0 < plain[0] * plain[1] <= max_pixels:
        return _plain_header(plain[0], plain[1], plain[2] == "RGB")
    with open_picture(data, where, max_pixels) as image:
        width, height = image.size
        # Pillow already rotates the size of a TIFF. A PNG would be decoded completely to find EXIF after its pixels.
        turned = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
        if turned and _orientation(image) >= 5:
            width, height = height, width
        if image.mode in ("P", "PA"):
            pixels = np.asarray(flatten(image, where))
            color = pixels.ndim == 3 and bool((pixels != pixels[..., :1]).any())
        else:
            color = image.mode in _COLOR_MODES
        several_pages = image.format != "MPO" and getattr(image, "is_animated", False)  # an MPO has previews
        return Header(height, width, color, 1 + several_pages, squeezed_bits(data))


def squeezed_bits(data: bytes) -> int:
    """Bits per value of an AVIF or HEIC with more than 8, of which only eight can be read; else 0."""
    if data[4:8] != b"ftyp":
        return 0
    at = data.find(b"av1C", 0, 1 << 16)
    if at >= 0 and len(data) > at + 6:
        return (12 if data[at + 6] & 0x20 else 10) if data[at + 6] & 0x40 else 0
    at = data.find(b"hvcC", 0, 1 << 16)
    bits = 8 + (data[at + 4 + 17] & 7) if at >= 0 and len(data) > at + 21 else 8
    return bits if bits > 8 else 0


def decode_image(data: bytes | Path, where: str, preparation: Preparation) -> np.ndarray:
    """The picture as uint8 of `preparation.input_shape`: (C, H, W), C = 1 for gray, 3 for RGB.

    Raises UnreadableImage.
    """
    data = read_bytes(data, where)
    if _few_scans(data) and (pixels := decode_plain_jpeg(data, preparation)) is not None:
        return place_picture(pixels, preparation.input_shape[1:], preparation.fit)  # type: ignore[arg-type]
    with open_picture(data, where, preparation.max_pixels) as image:
        turn = turn_of(image) if image.format == "JPEG" else None
        reduced = reduce_decoding(image, turn, preparation) if preparation.reduced else None
        return _prepared(image, where, preparation, reduced)


def prepare_image(image: Image.Image, where: str, preparation: Preparation) -> np.ndarray:
    """A Pillow image as uint8 of `preparation.input_shape`, like its file, except that large JPEGs are decoded at full
    size here. The image is not changed.

    Raises UnreadableImage.
    """
    with explained(where, None):
        _check_pixels(image, where, preparation.max_pixels)
        return _prepared(image, where, preparation, None)


def prepare_uncropped(
    given: bytes | Path | Image.Image, where: str, preparation: Preparation
) -> tuple[np.ndarray, tuple[int, int]]:
    """A picture as uint8 (C, height, width), neither cropped nor padded, with its own aspect ratio; and its own height
    and width in pixels. It has the scale at which `preparation` would fit it, or its own where training images were not
    scaled. Raises UnreadableImage."""
    if isinstance(given, Image.Image):
        with explained(where, None):
            turned = _orientation(given) >= 5
        width, height = given.size[::-1] if turned else given.size
    else:
        given = read_bytes(given, where)
        header = read_header(given, where, max_pixels=preparation.max_pixels)
        height, width = header.height, header.width
    scaled = height, width
    if not preparation.native:
        scaled = uncropped_size(scaled, preparation.input_shape[1:], preparation.fit)  # type: ignore[arg-type]
    own = replace(preparation, input_shape=(preparation.input_shape[0], *scaled), fit="stretch")
    if isinstance(given, Image.Image):
        return prepare_image(given, where, own), (height, width)
    return decode_image(given, where, own), (height, width)


class PictureParts:
    """A picture file that is decoded once and read in parts; `size`: its (height, width). Raises UnreadableImage."""

    def __init__(self, path: Path, where: str, preparation: Preparation) -> None:
        self.where = where
        with explained(where, None):
            if not stat.S_ISREG(path.stat().st_mode):
                raise UnreadableImage(where, "not a regular file")
            # By its path, since the bytes of a large file would take memory in addition to the pixels.
            with Image.open(path, formats=_formats()) as image:
                _check_pixels(image, where, max(preparation.max_pixels, MOST_TILED_PIXELS))
                image.load()
                self._turn, self._mode = turn_of(image), "L" if preparation.input_shape[0] == 1 else "RGB"
                # A gray TIFF may be mapped from its file, which is closed here.
                self._image = image.copy() if image.mode == "L" else image
        size = (self._image.height, self._image.width)
        self.size = size[::-1] if self._turn in _TURNED else size

    def read(self, box: tuple[int, int, int, int]) -> np.ndarray:
        """The part (top, left, height, width) as (C, height, width) uint8."""
        top, left, height, width = box
        part = self._stored((left, top, left + width, top + height))
        with explained(self.where, None):
            # Only the part is converted: a converted copy of the whole picture would take memory too.
            flat = flatten(self._image.crop(part), self.where)
        flat = flat if flat.mode == self._mode else flat.convert(self._mode)
        pixels = pixels_of(flat if self._turn is None else flat.transpose(self._turn))
        return np.array(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0), order="C")

    def _stored(self, box: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
        """The box in the file of a part (left, top, right, bottom) of the upright picture."""
        if self._turn is None:
            return box
        height, width = self.size
        left, top, right, bottom = box
        ends = [(left, top), (right, top), (left, bottom), (right, bottom)]
        back = [_turned_back(self._turn, x, y, width, height) for x, y in ends]
        xs, ys = zip(*back, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


def _turned_back(turn: Image.Transpose, x: int, y: int, width: int, height: int) -> tuple[int, int]:
    """The corner (x, y) of an upright picture of this size, before it was transposed by `turn`."""
    flips = {
        Image.Transpose.FLIP_LEFT_RIGHT: (width - x, y),
        Image.Transpose.FLIP_TOP_BOTTOM: (x, height - y),
        Image.Transpose.ROTATE_180: (width - x, height - y),
        Image.Transpose.TRANSPOSE: (y, x),
        Image.Transpose.TRANSVERSE: (height - y, width - x),
        Image.Transpose.ROTATE_90: (height - y, x),
        Image.Transpose.ROTATE_270: (y, width - x),
    }
    return flips[turn]


def _prepared(image: Image.Image, where: str, preparation: Preparation, reduced: Reduced | None) -> np.ndarray:
    channels, height, width = preparation.input_shape
    image.load()
    turn = turn_of(image)
    flat, mode = flatten(image, where), "L" if channels == 1 else "RGB"
    flat = flat if flat.mode == mode else flat.convert(mode)
    upright = flat if turn is None else flat.transpose(turn)
    if reduced is not None:
        return place_reduced(upright, (height, width), preparation.fit, reduced)
    return place_picture(pixels_of(upright), (height, width), preparation.fit)


def decode_mask(
    data: bytes | Path, where: str, *, max_pixels: int = 64_000_000, colors: Sequence[tuple[int, int, int]] = ()
) -> np.ndarray:
    """The values of a mask as (H, W) uint8: gray levels, or indices into a palette, whatever its colors. With `colors`
    (r, g, b), the position of each pixel's color among them.

    Raises UnreadableImage for a file that is not a picture, and for a color that is not among `colors`; without these,
    for color, alpha and values above 255.
    """
    with open_picture(data, where, max_pixels) as image:
        image.load()
        turn = turn_of(image)
        values = _color_numbers(image, where, colors) if colors else np.asarray(image)
        if values.ndim == 3:
            if image.mode != "RGB" or (values != values[..., :1]).any():
                remedy = "save it as a gray or palette PNG, or name its colors in colors.txt (r g b name)"
                raise UnreadableImage(where, f"a mask in mode {image.mode}, whose colors need a colors.txt", remedy)
            values = values[..., 0]
        if values.dtype.kind == "f" or int(values.min()) < 0 or int(values.max()) > 255:
            raise UnreadableImage(
                where, f"mask values from {values.min()} to {values.max()}", "number the classes 0 to 254"
            )
        upright = Image.fromarray(values.astype(np.uint8))
        return np.asarray(upright if turn is None else upright.transpose(turn))


def _color_numbers(image: Image.Image, where: str, colors: Sequence[tuple[int, int, int]]) -> np.ndarray:
    """(H, W) uint8, the position of each pixel's color among `colors`. Raises UnreadableImage for another color."""
    rgb = np.asarray(image.convert("RGB")).astype(np.int32)
    packed = (rgb[..., 0] << 16) + (rgb[..., 1] << 8) + rgb[..., 2]
    known = np.array([(r << 16) + (g << 8) + b for r, g, b in colors])
    order = np.argsort(known)
    places = order[np.searchsorted(known, packed, sorter=order).clip(max=len(known) - 1)]
    if (wrong := known[places] != packed).any():
        row, column = (int(side) for side in np.argwhere(wrong)[0])
        color = " ".join(map(str, rgb[row, column].tolist()))
        raise UnreadableImage(
            where,
            f"{several(int(wrong.sum()), 'pixel')} in colors that colors.txt does not name, first {color} in row {row},"
            f" column {column}",
            f"add the color to colors.txt ({color} NAME), or save the mask without interpolation",
        )
    numbers: np.ndarray = places.astype(np.uint8)
    return numbers


def refit(inputs: np.ndarray, channels: int, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """Images (N, C, H, W) uint8 in memory, converted to `channels` and `size` like files."""
    if inputs.shape[1:] == (channels, *size):
        return inputs
    out = np.empty((len(inputs), channels, *size), np.uint8)
    mode = "L" if channels == 1 else "RGB"
    for number, x_CHW in enumerate(inputs):
        pixels = x_CHW[0] if len(x_CHW) == 1 else np.moveaxis(x_CHW, 0, -1)
        if len(x_CHW) != channels:
            pixels = pixels_of(Image.fromarray(np.ascontiguousarray(pixels)).convert(mode))
        out[number] = place_picture(pixels, size, fit)
    return out


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """The transposition that makes a loaded picture upright, by its EXIF; None where it is upright."""
    return TURNS.get(_orientation(image))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF does not mean damaged pixels
        return 1
    return value if isinstance(value, int) else 1


def flatten(image: Image.Image, where: str) -> Image.Image:
    """The picture in mode L or RGB, without alpha; the same object where it is so already."""
    image.load()
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return from_deep(image, where)
    if image.has_transparency_data:
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    if image.mode in ("1", "L"):
        return image.convert("L")
    return image.convert("RGB")


def from_deep(image: Image.Image, where: str) -> Image.Image:
    """A gray picture of 16 or 32 bits or floats, converted to eight bits by the rules above. Raises UnreadableImage."""
    values = np.asarray(image)
    top = 1.0 if image.mode == "F" else 65535
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= top):
        kind = "floating-point" if image.mode == "F" else "32-bit"
        raise UnreadableImage(
            where,
            f"{kind} values from {low:g} to {high:g}",
            f"scale its values to 0 to {top:g} and save it again",
            f"values from 0 to {top:g}",
        )
    if image.mode == "F":
        return Image.fromarray(np.rint(values * 255).astype(np.uint8))
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        values = np.where(values == transparent, 65535, values)
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))


@contextmanager
def open_picture(data: bytes | Path, where: str, max_pixels: int) -> Iterator[Image.Image]:
    """The Pillow image, with only its header read. Any error inside becomes UnreadableImage."""
    data = read_bytes(data, where)
    with explained(where, data), Image.open(BytesIO(data), formats=_formats()) as image:
        _check_pixels(image, where, max_pixels)
        if not _few_scans(data):
            raise UnreadableImage(where, f"a JPEG of more than {MOST_SCANS} scans", "save it again")
        yield image


def read_bytes(data: bytes | Path, where: str) -> bytes:
    """The bytes of a picture file. Raises UnreadableImage, also for a pipe or device, which might never end."""
    if isinstance(data, bytes):
        return data
    with explained(where, None):
        status = data.stat()
        if not stat.S_ISREG(status.st_mode):
            raise UnreadableImage(where, "not a regular file")
        if status.st_size > MAX_PICTURE_BYTES:
            raise UnreadableImage(
                where, f"a file of {several(status.st_size, 'byte')}, more than {MAX_PICTURE_BYTES:,}"
            )
        return data.read_bytes()


def _few_scans(data: bytes) -> bool:
    if not data.startswith(b"\xff\xd8"):
        return True
    # `bytes.count` takes three times as long, since a JPEG has many of the first byte.
    return sum(1 for _ in islice(_SCAN.finditer(data), MOST_SCANS + 1)) <= MOST_SCANS


@contextmanager
def explained(where: str, data: bytes | None) -> Iterator[None]:
    with pillow_ours():
        try:
            yield
        except UnreadableImage:
            raise
        except UnidentifiedImageError:
            if data is not None and data[4:8] == b"ftyp" and data[8:12] in _HEIC:
                raise UnreadableImage(where, f"HEIC, which {_HEIC_EXTRA} reads", _HEIC_EXTRA) from None
            raise UnreadableImage(where, _what_it_is(data)) from None
        except Exception as error:  # decoders raise anything on damaged files: SyntaxError, struct.error, …
            raise UnreadableImage(where, _in_plain_words(error)) from None


def _check_pixels(image: Image.Image, where: str, max_pixels: int) -> None:
    pixels = image.width * image.height
    if pixels > max_pixels:
        raise UnreadableImage(
            where,
            f"{image.width} × {image.height} = {pixels:,} pixels, more than the {max_pixels:,} allowed",
            f"make it smaller, or allow it with --data.max_pixels {pixels}",
        )
    if pixels == 0:
        raise UnreadableImage(where, "a picture without pixels")


def _what_it_is(data: bytes | None) -> str:
    if not data:
        return "an empty file"
    return f"not a picture: the file begins with {data[:12]!r}"


def _in_plain_words(error: Exception) -> str:
    text = str(error).split("\n")[0][:200]
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "no permission to read the file"
    if isinstance(error, MemoryError):
        return "too large for the memory of this machine"
    if "runcated" in text or "ended unexpectedly" in text or isinstance(error, EOFError):
        return "cut off: the file ends before the picture does"
    return f"damaged, or in a format that is not supported ({type(error).__name__}: {text})"


@cache
def _formats() -> tuple[str, ...]:
    Image.init()
    formats = list(_FORMATS)
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener(thumbnails=False)
        formats.append("HEIF")
    return tuple(name for name in formats if name in Image.OPEN)
