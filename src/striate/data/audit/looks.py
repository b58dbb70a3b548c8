"""The second look at images: every one is decoded once, and a few numbers of it are kept.
A short description of what an image shows, nearly the same after re-encoding and resizing.

The luma of the whole image on 32 × 32 pixels, its two-dimensional cosine transform, and of that the 8 × 8 lowest
frequencies without the constant one, as in the perceptual hash pHash (E. Klinger and D. Starkweather, 2010). There
their signs make 64 bits; here the numbers are kept, divided by their length: a sign near zero is chance, and 64 signs
tell few photographs of shirts apart. The distance of two descriptions is 0 to 2: √(2 − 2 · correlation).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.audit.crops import MOST
from striate.data.audit.crops import SIDE as _LARGEST
from striate.data.audit.mask_looks import MaskLook, look_at_mask
from striate.data.dataset import Preparation
from striate.data.listing import Listing
from striate.data.media.image.jpeg import plain_jpeg_header
from striate.data.media.image.pictures import Header, decode_image, decode_mask, open_picture, refit, turn_of
from striate.data.media.image.raster_files import RasterHeader, format_of, header_of
from striate.data.media.image.raster_medium import small_picture
from striate.data.scan import mask_named, why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError

SIDE, KEPT = 32, 8
LENGTH = KEPT * KEPT - 1
"""Numbers in a description."""


def luma_of(x_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of an image (C, H, W), C = 1 or 3, on (32, 32) pixels, bicubic with antialiasing."""
    luma = _gray(x_CHW)
    if luma.shape == (SIDE, SIDE):
        return luma
    image = Image.fromarray(np.ascontiguousarray(luma))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _gray(x_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    luma: NDArray[np.uint8] = x_CHW[0]
    if len(x_CHW) == 3:  # as Pillow rounds it, without a picture of three bytes a pixel in between
        red, green, blue = x_CHW.astype(np.uint32)
        luma = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
    return luma


def describe(lumas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Of (N, 32, 32) lumas the descriptions (N, 63) of length 1, and of each the mean and the contrast in levels (N,).

    The contrast is the root of the mean square that the kept frequencies contribute; without any, a description is 0.
    """
    from scipy.fft import dctn  # takes a tenth of a second to load

    spectrum = dctn(lumas.astype(np.float32), axes=(1, 2), norm="ortho")[:, :KEPT, :KEPT].reshape(len(lumas), -1)
    low = spectrum[:, 1:]
    lengths = np.linalg.norm(low, axis=1)
    descriptions = low / np.maximum(lengths, 1e-6)[:, None]
    return descriptions.astype(np.float32), (spectrum[:, 0] / SIDE).astype(np.float32), lengths / SIDE


_CHUNK = 1024


@dataclass(frozen=True)
class FileLook:
    """What a picture file is: Pillow's name of its format and of its mode, and whether its EXIF turns it."""

    format: str
    mode: str
    turned: bool


@dataclass(frozen=True)
class Looks:
    """Of every sample a row, also of what could not be read (zeros).

    `descriptions` (N, 63), see `perceptual.py`; `means` and `contrasts` of luma, `deviations` of all values, (N,) in
    levels of 0 to 255; `sizes` (N, 2) height and width in pixels. By id: `files` of picture files, `masks` the values
    that occur in a mask; `unreadable` and `misfits` (masks not as large as their image), the reasons. Where images are
    few enough to be compared part by part (`crops.py`): `lumas` of those of 64 × 64 pixels or more, on so many pixels,
    and `mask_looks`.
    """

    descriptions: NDArray[np.float32]
    means: NDArray[np.float32]
    contrasts: NDArray[np.float32]
    deviations: NDArray[np.float32]
    sizes: NDArray[np.int64]
    files: dict[int, FileLook]
    masks: dict[int, frozenset[int]]
    unreadable: dict[int, str]
    misfits: dict[int, str]
    lumas: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    mask_looks: dict[int, MaskLook] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    luma: NDArray[np.uint8]
    deviation: float
    size: tuple[int, int]
    file: FileLook | None = None
    mask: frozenset[int] | None = None
    misfit: str = ""
    large: NDArray[np.uint8] | None = None
    mask_look: MaskLook | None = None


def look_at(
    listing: Listing,
    ids: Sequence[int],
    headers: Mapping[int, Header],
    max_pixels: int,
    progress: Callable[[int], None] = lambda _: None,
) -> Looks:
    """Decode the images `ids` of a listing, a few at a time; what cannot be read is among `unreadable`, never raised.

    `headers` are those of files that were read before, by id. `progress` is told of every number of images that is
    done.
    """
    count = len(listing)
    means, contrasts, deviations = np.zeros((3, count), np.float32)
    descriptions, sizes = np.zeros((count, LENGTH), np.float32), np.zeros((count, 2), np.int64)
    looks = Looks(descriptions, means, contrasts, deviations, sizes, {}, {}, {}, {})
    stream = zip(ids, map_ordered(lambda i: _look(listing, i, headers.get(i), max_pixels), ids), strict=True)
    while part := list(islice(stream, _CHUNK)):
        _enter(looks, part)
        progress(len(part))
    return looks


def _enter(looks: Looks, part: list[tuple[int, _Seen | str]]) -> None:
    looks.unreadable.update((number, seen) for number, seen in part if isinstance(seen, str))
    readable = [(number, seen) for number, seen in part if not isinstance(seen, str)]
    if not readable:
        return
    rows = np.array([number for number, _ in readable])
    described = describe(np.stack([seen.luma for _, seen in readable]))
    looks.descriptions[rows], looks.means[rows], looks.contrasts[rows] = described
    looks.deviations[rows] = [seen.deviation for _, seen in readable]
    looks.sizes[rows] = [seen.size for _, seen in readable]
    looks.files.update((number, seen.file) for number, seen in readable if seen.file is not None)
    looks.masks.update((number, seen.mask) for number, seen in readable if seen.mask is not None)
    if len(looks.means) <= MOST:
        looks.mask_looks.update((number, seen.mask_look) for number, seen in readable if seen.mask_look is not None)
        looks.lumas.update((number, seen.large) for number, seen in readable if seen.large is not None)
    looks.misfits.update((number, seen.misfit) for number, seen in readable if seen.misfit)


def _look(listing: Listing, number: int, header: Header | None, max_pixels: int) -> _Seen | str:
    if listing.inputs is not None:
        x_CHW = listing.inputs[number]
        small, mask, mask_look = _small(x_CHW), None, None
        if listing.annotation == "mask" and listing.targets is not None:
            mask = frozenset(np.unique(listing.targets[number]).tolist())
            mask_look = look_at_mask(listing.targets[number], _gray(small))
        return _seen(small, (x_CHW.shape[1], x_CHW.shape[2]), mask=mask, mask_look=mask_look)
    assert listing.read is not None
    path = listing.paths[number]
    try:
        data = listing.read(number)
        header = header or header_of(data, path, max_pixels=max_pixels)
        size = (header.height, header.width)
        inner = (min(size[0], _LARGEST), min(size[1], _LARGEST))
        if isinstance(header, RasterHeader):
            file = FileLook(format_of(data), header.plane, turned=False)
            x_CHW = small_picture(data, path, header, inner, max_pixels)
        else:
            file = _file_look(data, path, max_pixels)
            shape = (3 if header.color else 1, *inner)
            x_CHW = decode_image(data, path, Preparation("image", shape, "stretch", max_pixels, reduced=True))
        mask, misfit, mask_look = _look_at_mask(listing, number, size, max_pixels, x_CHW)
    except (OSError, DataError) as error:
        return why_unreadable(error)
    return _seen(x_CHW, size, file, mask, misfit, mask_look)


def _file_look(data: bytes, path: str, max_pixels: int) -> FileLook:
    plain = plain_jpeg_header(data)  # Pillow takes ten times as long to say the same
    if plain is not None:
        return FileLook("JPEG", "RGB" if plain[2] == "RGB" else "L", turned=False)
    with open_picture(data, path, max_pixels) as image:
        return FileLook(image.format or "", image.mode, turn_of(image) is not None)


def _seen(
    x_CHW: NDArray[np.uint8],
    size: tuple[int, int],
    file: FileLook | None = None,
    mask: frozenset[int] | None = None,
    misfit: str = "",
    mask_look: MaskLook | None = None,
) -> _Seen:
    # By channel: an even red has three values and shows nothing.
    values = x_CHW.reshape(len(x_CHW), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    deviation = float(np.sqrt(np.einsum("cn,cn->c", values, values).max() / values.shape[1]))
    large = _gray(x_CHW) if x_CHW.shape[1:] == (_LARGEST, _LARGEST) else None
    return _Seen(luma_of(x_CHW), deviation, size, file, mask, misfit, large, mask_look)


def _small(x_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels, height, width = x_CHW.shape
    size = (min(height, _LARGEST), min(width, _LARGEST))
    small: NDArray[np.uint8] = refit(np.ascontiguousarray(x_CHW)[None], channels, size, "stretch")[0]
    return small


def _look_at_mask(
    listing: Listing, number: int, size: tuple[int, int], max_pixels: int, image: NDArray[np.uint8]
) -> tuple[frozenset[int] | None, str, MaskLook | None]:
    if listing.read_mask is None:
        return None, "", None
    where = listing.labels[number]
    with mask_named(where):
        values = decode_mask(listing.read_mask(number), where, max_pixels=max_pixels, colors=listing.colors)
    misfit = ""
    if values.shape != size:
        misfit = f"{where} has {values.shape[0]} × {values.shape[1]} pixels, its image {size[0]} × {size[1]}"
    look = look_at_mask(values, _gray(image)) if not misfit and len(listing) <= MOST else None
    return frozenset(np.unique(values).tolist()), misfit, look
