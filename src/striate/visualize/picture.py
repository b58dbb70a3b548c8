"""The pixels of a picture, from a file or a named data set: values of 0 to 255, not resized and not blended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.media.every_medium import medium_of
from striate.data.media.image.pictures import UnreadableImage, from_deep, open_picture, prepare_image, turn_of
from striate.data.media.image.raster_files import RasterHeader, header_of, may_be_raster
from striate.data.media.image.raster_medium import small_picture
from striate.errors import DataError, pasted
from striate.runs.files import user_path
from striate.wording import several

if TYPE_CHECKING:
    from striate.data.dataset import Preparation
    from striate.data.listing import Listing

Bytes = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
GRAY_WEIGHTS = "0.299 red + 0.587 green + 0.114 blue, rounded to nearest"
"""ITU-R BT.601, as in Pillow's mode L (weights of 16 bits)."""

_PLAIN = {"L": "L", "RGB": "RGB", "LA": "LA", "RGBA": "RGBA"}
# Pillow's modes in words.
_COLORS = {
    "1": "black and white",
    "L": "gray",
    "La": "gray with premultiplied alpha",
    "LA": "gray with alpha",
    "RGB": "red, green, blue",
    "RGBA": "red, green, blue with alpha",
    "RGBa": "red, green, blue with premultiplied alpha",
    "RGBX": "red, green, blue with an unused channel",
}


@dataclass(frozen=True)
class Picture:
    """The pixels of a picture file."""

    values: Bytes
    """(H, W, C) uint8, C = 1 for gray and 3 for red, green, blue."""
    alpha: Bytes | None = None
    """(H, W) uint8; None where there is none."""
    profile: bytes | None = None
    """The embedded color profile; None where there is none."""
    notes: tuple[str, ...] = ()
    """What reading has changed, a sentence each."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return ("gray",) if self.values.shape[2] == 1 else ("red", "green", "blue")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.values.shape[1], self.values.shape[0]


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Picture:
    """The picture in a file, upright (EXIF orientation applied), with eight bits a value.

    Palettes and color models other than RGB become RGB, one-bit and deeper gray become gray of eight bits; of several
    pictures in a file only the first is read. Each such change is a note. Raises UnreadableImage, a DataError.
    """
    place = user_path(str(path))
    try:
        if place.is_dir():
            raise UnreadableImage(str(path), "a folder", f"name a picture in it: ls {pasted(path)}")
        with open_picture(place, str(path), max_pixels) as image:
            return _as_picture(image, str(path))
    except OSError as error:  # a name that is too long
        reason = error.strerror or str(error)
        raise UnreadableImage(f"{str(path)[:60]}…", reason, "name an existing file") from None
    except UnreadableImage as error:
        pixels = error.remedy.partition("--data.max_pixels ")[2]
        if pixels:
            remedy = f"make it smaller, or allow it with --max-pixels {pixels}"
        else:
            remedy = "name another file" if place.is_file() else "name an existing file"
        raise UnreadableImage(str(path), error.reason, remedy) from None


def read_picture_bytes(data: bytes, where: str, max_pixels: int = MAX_PIXELS) -> Picture:
    """The same as `read_picture`, for the bytes of a file. Raises UnreadableImage."""
    with open_picture(data, where, max_pixels) as image:
        return _as_picture(image, where)


def to_gray(picture: Picture) -> Picture:
    """The picture in gray, by `GRAY_WEIGHTS`; a gray one unchanged."""
    if picture.values.shape[2] == 1:
        return picture
    gray = np.asarray(Image.fromarray(picture.values).convert("L"))[..., None]
    return Picture(gray, picture.alpha, None, (*picture.notes, f"gray = {GRAY_WEIGHTS}"))


def whole_numbers(text: str, count: int) -> list[int] | None:
    """`count` whole numbers, separated by commas; None for other texts."""
    try:
        numbers = [int(part) for part in text.split(",")] if len(text) < 100 else []
    except ValueError:
        return None
    return numbers if len(numbers) == count else None


def _as_picture(image: Image.Image, where: str) -> Picture:
    notes: list[str] = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        notes.append(f"the first of {several(frames, 'picture')} in the file is used")
    profile = image.info.get("icc_profile")
    image.load()
    turn = turn_of(image)
    plain = _eight_bits(image, where, notes)
    if turn is not None:
        plain = plain.transpose(turn)
        notes.append("rotated as its EXIF orientation says")
    planes: NDArray[Any] = np.asarray(plain)
    planes = planes.reshape(*planes.shape[:2], -1)
    alpha = planes[..., -1] if plain.mode in ("LA", "RGBA") else None
    values = planes if alpha is None else planes[..., :-1]
    same = plain.mode == image.mode or (plain.mode in ("L", "LA") and image.mode in ("1", "P"))
    return Picture(np.ascontiguousarray(values), alpha, profile if same else None, tuple(notes))


def _eight_bits(image: Image.Image, where: str, notes: list[str]) -> Image.Image:
    """The picture in mode L, LA, RGB or RGBA."""
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;16"):
        scale = "0 to 1" if mode == "F" else "0 to 65,535"
        notes.append(f"gray values of {scale} (mode {mode}) are scaled to 0 to 255 and rounded")
        return from_deep(image, where)
    transparent = image.has_transparency_data
    if mode in _PLAIN and (not transparent or mode in ("LA", "RGBA")):
        return image
    if mode in ("1", "L", "La"):
        found = image.convert("LA" if transparent else "L")
    else:
        found = image.convert("RGBA" if transparent else "RGB")
    if mode in ("P", "PA"):
        found = _gray_if_it_is(found)
        notes.append(f"colors of the palette became {'gray' if found.mode in ('L', 'LA') else 'red, green, blue'}")
    elif mode not in ("L", "RGB"):
        notes.append(f"{_COLORS.get(mode, mode)} became {_COLORS[found.mode]}")
    return found


def _gray_if_it_is(image: Image.Image) -> Image.Image:
    values = np.asarray(image)
    if (values[..., :3] != values[..., :1]).any():
        return image
    return image.convert("LA" if image.mode == "RGBA" else "L")


def names_sample(text: str) -> bool:
    """Whether the text is `NAME#NUMBER`, a sample in a file such as `new.npz#test/3`, or a data set's name without a
    number, and not a file."""
    from striate.data.sources.named import info

    name, _, number = text.partition("#")
    meant = info(name) is not None or (name and number.isascii() and number.isdigit())
    meant = meant or (number and Path(name).is_file())
    return bool(meant) and not Path(text).is_file()


def sample_picture(text: str, announce: Callable[[str], None] | None = None) -> Picture:
    """A sample of a named set or of a file of arrays, by its number in the order of split.csv, from 0, with its label
    as a note.

    Raises DataError for an unknown set or sample, and for a set without images.
    """
    listing, number = _named_sample(text, False, announce)
    label = listing.labels[number] if number < len(listing.labels) else ""
    read = listed_picture(listing, number)
    return replace(read, notes=(f"{text} is a picture of: {label}", *read.notes))


def _named_sample(text: str, table: bool, announce: Callable[[str], None] | None) -> tuple[Listing, int]:
    """The named set or the file of a sample, which must be a `table` or images, and the sample's number in it. Raises
    DataError."""
    from striate.data.config import DataConfig
    from striate.data.sources.list_source import list_source
    from striate.data.sources.named import catalogue, info

    name, mark, digits = text.partition("#")
    entry, example = info(name), "iris#17" if table else "mnist5k#17"
    if entry is None and not Path(name).is_file():
        fitting = ", ".join(known.name for known in catalogue() if medium_of(known.kind).flat == table)
        raise DataError(text, f"no data set named {name!r}, and no such file", fitting, f"write {example}")
    # A named set may have to be downloaded, so its kind is checked before it is listed.
    listing = list_source(DataConfig(name), None, announce) if entry is None else None
    if listing is not None:
        kind: str = listing.kind
    else:
        assert entry is not None
        kind = entry.kind
    medium, expected = medium_of(kind), "a table" if table else "images"
    if not (medium.flat if table else medium.pictures):
        got = f"{medium.many if medium.pictures else medium.a}, not {expected}"
        raise DataError(text, got, f"a data set of {'rows' if table else expected}", f"write {example}")
    if not (digits.isascii() and digits.isdigit()):
        got = f"the number {digits[:20]!r}" if mark else f"the data set {name} without the number of a sample"
        raise DataError(text[:80], got, "a whole number from 0", f"write {name}#0")
    listing = listing or list_source(DataConfig(name), None, announce)
    number = int(digits) if len(digits) < 12 else len(listing)
    if number >= len(listing):
        remedy = f"write {name}#{len(listing) - 1}"
        raise DataError(text, several(len(listing), "sample"), f"a number from 0 to {len(listing) - 1}", remedy)
    return listing, number


def sample_input(
    name: str, preparation: Preparation, announce: Callable[[str], None] | None = None
) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The sample of a named data set, `mnist5k#17` or `iris#17`, or of a file, `new.npz#3`, as a raw input (C, H, W) or
    (F,). Raises DataError."""
    from striate.data.predict_inputs import row_named  # loads torch, which pictures alone need not

    medium, row = medium_of(preparation.kind), row_named(name, preparation)
    if row is not None:
        return row
    if medium.flat:
        listing, number = _named_sample(name, True, announce)
        assert listing.inputs is not None, "rows are in memory"
        return medium.prepare(listing.inputs[number], preparation)
    values = sample_picture(name, announce).values
    picture = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    if not medium.shows_itself:
        return medium.prepare(picture, preparation)
    return prepare_image(picture, name, preparation)


def listed_picture(listing: Listing, number: int) -> Picture:
    """A sample of a listing of images, by number, unchanged; values of an instrument are scaled to bytes over the range
    of the file. Raises UnreadableImage; OSError for a missing file."""
    if listing.inputs is not None:
        return Picture(np.ascontiguousarray(np.moveaxis(listing.inputs[number], 0, -1)))
    assert listing.read is not None
    data, path = listing.read(number), listing.paths[number]
    header = header_of(data, path, max_pixels=MAX_PIXELS) if may_be_raster(data) else None
    if not isinstance(header, RasterHeader):
        return read_picture_bytes(data, path)
    pixels = small_picture(data, path, header, (header.height, header.width), MAX_PIXELS)
    note = f"{header.plane}: values {header.low:,.6g} to {header.high:,.6g} are drawn in 256 levels"
    return Picture(np.ascontiguousarray(np.moveaxis(pixels, 0, -1)), notes=(note,))
