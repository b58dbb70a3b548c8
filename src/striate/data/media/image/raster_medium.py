"""Pictures from instruments as a medium, with all values and channels of the files.

An input is (C, H, W) float32 in levels. Levels 0 and 255 are the 0.1st and the 99.9th percentile of all files, for each
channel separately, or for the three of color together; for bytes they are 0 and 255. So levels mean the same as in
ordinary pictures, with fractions between them. Values outside the range have levels outside 0 to 255, by at most the
width of the range; NaN, Inf and the file's value for no data are level 0.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.data.config import SOUND, AugmentConfig, DataConfig
from striate.data.media.image.fitting import place_picture, uncropped_size
from striate.data.media.image.image_medium import Images
from striate.data.media.image.pictures import Header, UnreadableImage, explained
from striate.data.media.image.raster_files import DEPTHS, Raster, as_numbers, raster_values, read_raster
from striate.data.media.image.raster_plan import SIXTEEN_FROM_EIGHT, plan_rasters, range_note
from striate.data.media.medium import Preparation
from striate.errors import DataError
from striate.wording import listed, several, show_shape

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in gray, as in Pillow."""
LEAST, MOST = -255.0, 510.0
"""Limits to which levels outside the range are clipped."""


class Rasters(Images):
    """(C, H, W) float32 levels of any number of channels."""

    name: ClassVar[str] = "raster"
    dtype: ClassVar[str] = "float32"
    values: ClassVar[str] = "levels"
    convertible: ClassVar[tuple[int, ...]] = ()
    bounds: ClassVar[tuple[float, float]] = (LEAST, MOST)
    augmentations: ClassVar[frozenset[str]] = frozenset(AugmentConfig.__dataclass_fields__) - SOUND - {"policy"}

    def describe(self, shape: tuple[int, ...]) -> str:
        """Channels, height and width."""
        channels = several(shape[0], "channel")
        return f"images of {show_shape(shape[1:])} pixels in {channels}, levels of the range of the data"

    def axes(self, preparation: Preparation) -> str:
        """The values of the levels 0 and 255."""
        return range_note(preparation)

    def levels(self, raster: Raster, where: str, preparation: Preparation) -> NDArray[np.float32]:
        """(C, H, W) levels of a file, at its own size. Raises UnreadableImage."""
        channels = preparation.input_shape[0]
        if raster.depth not in preparation.depths:
            takes = listed([DEPTHS[depth] for depth in preparation.depths], 9)
            raise UnreadableImage(
                where, f"a picture of {DEPTHS.get(raster.depth, raster.depth)}, among pictures of {takes}",
                f"save it like the others: {takes}",
            )  # fmt: skip
        values = as_numbers(raster.values)  # of its own
        if raster.depth == "uint8" and "uint16" in preparation.depths:
            values = values * SIXTEEN_FROM_EIGHT
        found = values.shape[2]
        if found != channels and {found, channels} == {1, 3}:
            values = np.repeat(values, 3, 2) if channels == 3 else values @ np.array(LUMA)[:, None]
        elif found != channels:
            raise UnreadableImage(
                where,
                f"{several(found, 'channel')}, not {channels}",
                f"save it with {several(channels, 'channel')}, like the others",
            )
        return self.scaled(np.moveaxis(values, -1, 0), preparation)

    @staticmethod
    def scaled(numbers: NDArray[Any], preparation: Preparation) -> NDArray[np.float32]:
        """(C, H, W) levels from `as_numbers`, which are overwritten."""
        low, high = (np.array(end, numbers.dtype).reshape(-1, 1, 1) for end in (preparation.low, preparation.high))
        numbers -= low
        numbers *= 255 / (high - low)
        numbers.clip(LEAST, MOST, out=numbers)
        if numbers.dtype == np.float64:  # others were integers
            np.nan_to_num(numbers, copy=False, nan=0.0)
        return np.ascontiguousarray(numbers, np.float32)

    def as_in_files(self, inputs: NDArray[Any], preparation: Preparation) -> NDArray[np.float32]:
        """Values from levels."""
        low, high = (np.array(end).reshape(-1, 1, 1) for end in (preparation.low, preparation.high))
        values: NDArray[np.float32] = (low + inputs.astype(np.float64) * ((high - low) / 255)).astype(np.float32)
        return values

    def _raster(self, data: bytes | Path | Image.Image, where: str, preparation: Preparation) -> Raster:
        if isinstance(data, Image.Image):
            with explained(where, None):
                values = raster_values(data, where)
            return Raster(values, 1, str(values.dtype))
        every = preparation.pages == "channels"
        return read_raster(data, where, max_pixels=preparation.max_pixels, all_pages=every)

    def decode(self, data: bytes | Path, where: str, preparation: Preparation) -> NDArray[Any]:
        """The levels at the size of the inputs."""
        return self._placed(self._raster(data, where, preparation), where, preparation)

    def _placed(self, raster: Raster, where: str, preparation: Preparation) -> NDArray[np.float32]:
        levels = self.levels(raster, where, preparation)
        size: Any = preparation.input_shape[1:]
        return place_picture(np.moveaxis(levels, 0, -1), size, preparation.fit)

    def prepare(self, given: Any, preparation: Preparation) -> NDArray[Any]:
        """A path, a PIL image, or an array of the input's shape with values on the scale of files."""
        if isinstance(given, str | Path):
            return self.decode(Path(given), str(given), preparation)
        if hasattr(given, "getexif"):
            return self._placed(self._raster(given, "a PIL image", preparation), "a PIL image", preparation)
        return self.scaled(as_numbers(super(Images, self).prepare(given, preparation)), preparation)

    def uncropped(
        self, given: Any, where: str, preparation: Preparation
    ) -> tuple[NDArray[Any], tuple[int, int] | None]:
        """A file, its bytes or a PIL image, with its own aspect ratio; or an array of exactly the input's shape."""
        if not (isinstance(given, bytes | Path) or hasattr(given, "getexif")):
            return self.prepare(given, preparation), None
        raster = self._raster(given, where, preparation)
        height, width = raster.values.shape[:2]
        size = (height, width)
        if not preparation.native:
            size = uncropped_size(size, preparation.input_shape[1:], preparation.fit)  # type: ignore[arg-type]
        own = replace(preparation, input_shape=(preparation.input_shape[0], *size), fit="stretch")
        return self._placed(raster, where, own), (height, width)

    def parts(self, path: Path, where: str, preparation: Preparation) -> Any:
        """The levels of the file, to be read in parts."""
        raster = self._raster(path, where, preparation)
        return RasterParts(self, raster, where, preparation)

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """One channel in gray; two as red and green; the first three of more as red, green and blue."""
        del preparation
        if raw.ndim != 3:
            return None
        pixels: NDArray[np.uint8] = np.rint(raw.clip(0, 255)).astype(np.uint8)
        if len(pixels) == 1:
            one: NDArray[np.uint8] = pixels[0]
            return one
        if len(pixels) == 2:
            pixels = np.concatenate([pixels, np.zeros_like(pixels[:1])])
        rgb: NDArray[np.uint8] = np.ascontiguousarray(np.moveaxis(pixels[:3], 0, -1))
        return rgb


class RasterParts:
    """A picture file that is decoded once and read in parts; `size`: its (height, width)."""

    def __init__(self, medium: Rasters, raster: Raster, where: str, preparation: Preparation) -> None:
        self._medium, self._raster, self._where, self._preparation = medium, raster, where, preparation
        self.size: tuple[int, int] = raster.values.shape[:2]

    def read(self, box: tuple[int, int, int, int]) -> NDArray[np.float32]:
        """The part (top, left, height, width) as (C, height, width) levels."""
        top, left, height, width = box
        part = replace(self._raster, values=self._raster.values[top : top + height, left : left + width])
        return self._medium.levels(part, self._where, self._preparation)


def small_picture(data: bytes, where: str, header: Header, size: tuple[int, int], max_pixels: int) -> NDArray[np.uint8]:
    """(1 or 3, *size) bytes of a file, scaled by its own range, for display. Raises DataError."""
    preparation = Preparation("raster", (1, *size), "stretch", max_pixels)
    preparation = plan_rasters((preparation, (), ()), where, [header], DataConfig())[0]
    medium = Rasters()
    drawn = medium.drawn(medium.decode(data, where, preparation), preparation)
    if drawn is None:
        raise DataError(where, "no picture", "a picture that can be drawn", "leave it out")
    return drawn[None] if drawn.ndim == 2 else np.ascontiguousarray(np.moveaxis(drawn, -1, 0))
