"""Statistics of images for `striate data check`: each image is decoded once.

The description of an image is a vector that hardly changes when the image is re-encoded or resized: its luma on 32 × 32
pixels, the two-dimensional cosine transform of that, and of this the 8 × 8 lowest frequencies without the constant one,
as in the perceptual hash pHash (E. Klinger and D. Starkweather, 2010). pHash keeps the 64 signs. Here the values are
kept, divided by their length: the sign of a value near zero is chance, and 64 signs do not distinguish photographs of
shirts. The distance of two descriptions is √(2 − 2 · correlation), 0 to 2.
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
from striate.data.audit.mask_statistics import MaskStatistics, measure_mask
from striate.data.dataset import Preparation
from striate.data.listing import Listing
from striate.data.media.image.jpeg import plain_jpeg_header
from striate.data.media.image.pictures import Header, decode_image, decode_mask, open_picture, refit, turn_of
from striate.data.media.image.raster_files import RasterHeader, format_of, header_of
from striate.data.media.image.raster_medium import small_picture
from striate.data.scan import mask_named, why_unreadable
from striate.data.threads import map_ordered
from striate.errors import DataError

SIDE, FREQUENCIES = 32, 8
LENGTH = FREQUENCIES * FREQUENCIES - 1
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


def describe_lumas(lumas: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Descriptions (N, 63) of length 1, means (N,) and contrasts (N,) in levels of 0 to 255, of (N, 32, 32) lumas.

    The contrast is the root mean square of the image that the low frequencies make. Where it is 0, so is the
    description.
    """
    from scipy.fft import dctn  # takes a tenth of a second to load

    spectrum = dctn(lumas.astype(np.float32), axes=(1, 2), norm="ortho")[:, :FREQUENCIES, :FREQUENCIES].reshape(
        len(lumas), -1
    )
    low = spectrum[:, 1:]
    lengths = np.linalg.norm(low, axis=1)
    descriptions = low / np.maximum(lengths, 1e-6)[:, None]
    return descriptions.astype(np.float32), (spectrum[:, 0] / SIDE).astype(np.float32), lengths / SIDE


_CHUNK = 1024


@dataclass(frozen=True)
class PictureFormat:
    """Format and orientation of a picture file."""

    format: str
    """Pillow's name of the format."""
    mode: str
    """Pillow's name of the mode."""
    turned: bool
    """Whether EXIF rotates or mirrors the picture."""


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the N images of a listing. Arrays have a row for every sample, zeros where it could not be read;
    the keys of dicts are ids."""

    descriptions: NDArray[np.float32]
    """(N, 63), of length 1; 0 where an image has no contrast."""
    means: NDArray[np.float32]
    """(N,) mean luma, in levels of 0 to 255."""
    contrasts: NDArray[np.float32]
    """(N,) contrast of the luma, in levels."""
    deviations: NDArray[np.float32]
    """(N,) largest standard deviation of the values of a channel, in levels."""
    sizes: NDArray[np.int64]
    """(N, 2) height and width in pixels."""
    files: dict[int, PictureFormat]
    """Formats of picture files."""
    masks: dict[int, frozenset[int]]
    """The values that occur in each mask."""
    unreadable: dict[int, str]
    """Why a sample cannot be read."""
    misfits: dict[int, str]
    """Masks whose size differs from that of their image: both sizes, in words."""
    lumas: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """(64, 64) luma of images that are at least so large. Empty for more images than `crops.MOST`."""
    mask_statistics: dict[int, MaskStatistics] = field(default_factory=dict)
    """Empty for more images than `crops.MOST`."""


@dataclass(frozen=True)
class _Measured:
    luma: NDArray[np.uint8]
    deviation: float
    size: tuple[int, int]
    file: PictureFormat | None = None
    mask: frozenset[int] | None = None
    misfit: str = ""
    large: NDArray[np.uint8] | None = None
    mask_statistics: MaskStatistics | None = None


def measure_images(
    listing: Listing,
    ids: Sequence[int],
    headers: Mapping[int, Header],
    max_pixels: int,
    progress: Callable[[int], None] = lambda _: None,
) -> ImageStatistics:
    """Decode the images `ids` of a listing, a few at a time. An image that cannot be read is listed in `unreadable`;
    no error is raised.

    `headers`: headers of files that were read before, by id. `progress` is called with the number of images that were
    decoded since its last call.
    """
    count = len(listing)
    means, contrasts, deviations = np.zeros((3, count), np.float32)
    descriptions, sizes = np.zeros((count, LENGTH), np.float32), np.zeros((count, 2), np.int64)
    statistics = ImageStatistics(descriptions, means, contrasts, deviations, sizes, {}, {}, {}, {})
    stream = zip(ids, map_ordered(lambda i: _measure(listing, i, headers.get(i), max_pixels), ids), strict=True)
    while part := list(islice(stream, _CHUNK)):
        _add(statistics, part)
        progress(len(part))
    return statistics


def _add(statistics: ImageStatistics, part: list[tuple[int, _Measured | str]]) -> None:
    statistics.unreadable.update((number, image) for number, image in part if isinstance(image, str))
    readable = {number: image for number, image in part if not isinstance(image, str)}
    if not readable:
        return
    rows, images = np.array(list(readable)), readable.values()
    described = describe_lumas(np.stack([image.luma for image in images]))
    statistics.descriptions[rows], statistics.means[rows], statistics.contrasts[rows] = described
    statistics.deviations[rows] = [image.deviation for image in images]
    statistics.sizes[rows] = [image.size for image in images]
    few = len(statistics.means) <= MOST
    for number, image in readable.items():
        if image.file is not None:
            statistics.files[number] = image.file
        if image.mask is not None:
            statistics.masks[number] = image.mask
        if image.misfit:
            statistics.misfits[number] = image.misfit
        if few and image.mask_statistics is not None:
            statistics.mask_statistics[number] = image.mask_statistics
        if few and image.large is not None:
            statistics.lumas[number] = image.large


def _measure(listing: Listing, number: int, header: Header | None, max_pixels: int) -> _Measured | str:
    if listing.inputs is not None:
        x_CHW = listing.inputs[number]
        small, mask, mask_statistics = _small(x_CHW), None, None
        if listing.annotation == "mask" and listing.targets is not None:
            mask = frozenset(np.unique(listing.targets[number]).tolist())
            mask_statistics = measure_mask(listing.targets[number], _gray(small))
        return _measured(small, (x_CHW.shape[1], x_CHW.shape[2]), mask=mask, mask_statistics=mask_statistics)
    assert listing.read is not None
    path = listing.paths[number]
    try:
        data = listing.read(number)
        header = header or header_of(data, path, max_pixels=max_pixels)
        size = (header.height, header.width)
        inner = (min(size[0], _LARGEST), min(size[1], _LARGEST))
        if isinstance(header, RasterHeader):
            file = PictureFormat(format_of(data), header.plane, turned=False)
            x_CHW = small_picture(data, path, header, inner, max_pixels)
        else:
            file = _picture_format(data, path, max_pixels)
            shape = (3 if header.color else 1, *inner)
            x_CHW = decode_image(data, path, Preparation("image", shape, "stretch", max_pixels, reduced=True))
        mask, misfit, mask_statistics = _measure_mask(listing, number, size, max_pixels, x_CHW)
    except (OSError, DataError) as error:
        return why_unreadable(error)
    return _measured(x_CHW, size, file, mask, misfit, mask_statistics)


def _picture_format(data: bytes, path: str, max_pixels: int) -> PictureFormat:
    plain = plain_jpeg_header(data)  # Pillow takes ten times as long to say the same
    if plain is not None:
        return PictureFormat("JPEG", "RGB" if plain[2] == "RGB" else "L", turned=False)
    with open_picture(data, path, max_pixels) as image:
        return PictureFormat(image.format or "", image.mode, turn_of(image) is not None)


def _measured(
    x_CHW: NDArray[np.uint8],
    size: tuple[int, int],
    file: PictureFormat | None = None,
    mask: frozenset[int] | None = None,
    misfit: str = "",
    mask_statistics: MaskStatistics | None = None,
) -> _Measured:
    # By channel: a uniform red has different values in its channels, and shows nothing.
    values = x_CHW.reshape(len(x_CHW), -1).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    deviation = float(np.sqrt(np.einsum("cn,cn->c", values, values).max() / values.shape[1]))
    large = _gray(x_CHW) if x_CHW.shape[1:] == (_LARGEST, _LARGEST) else None
    return _Measured(luma_of(x_CHW), deviation, size, file, mask, misfit, large, mask_statistics)


def _small(x_CHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    channels, height, width = x_CHW.shape
    size = (min(height, _LARGEST), min(width, _LARGEST))
    small: NDArray[np.uint8] = refit(np.ascontiguousarray(x_CHW)[None], channels, size, "stretch")[0]
    return small


def _measure_mask(
    listing: Listing, number: int, size: tuple[int, int], max_pixels: int, image: NDArray[np.uint8]
) -> tuple[frozenset[int] | None, str, MaskStatistics | None]:
    if listing.read_mask is None:
        return None, "", None
    where = listing.labels[number]
    with mask_named(where):
        values = decode_mask(listing.read_mask(number), where, max_pixels=max_pixels, colors=listing.colors)
    misfit = ""
    if values.shape != size:
        misfit = f"{where} has {values.shape[0]} × {values.shape[1]} pixels, its image {size[0]} × {size[1]}"
    statistics = measure_mask(values, _gray(image)) if not misfit and len(listing) <= MOST else None
    return frozenset(np.unique(values).tolist()), misfit, statistics
