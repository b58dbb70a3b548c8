"""Media that are arrays of numbers: grids (signals, maps of measurements, volumes) and tables."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from striate.data.config import VOLUME
from striate.data.media.medium import Medium, Preparation
from striate.data.media.volume.slices_picture import middle_slices
from striate.wording import several, show_shape


class Grids(Medium):
    """An array of an .npz: (C, *spatial) float32, with one to three axes of positions."""

    name: ClassVar[str] = "grid"
    a: ClassVar[str] = "a grid"

    def describe(self, shape: tuple[int, ...]) -> str:
        """The noun for the number of axes, and the shape."""
        what = {2: "signals", 3: "maps", 4: "volumes"}.get(len(shape), "grids")
        return f"{what} of {show_shape(shape[1:])} in {several(shape[0], 'channel')}"

    def takes(self, shape: tuple[int, ...]) -> frozenset[str]:
        """The augmentations of volumes, if there are three axes of positions."""
        return VOLUME if len(shape) == 4 else self.augmentations

    def drawn(self, raw: NDArray[Any], preparation: Preparation) -> NDArray[np.uint8] | None:
        """The three middle slices of a volume."""
        del preparation
        return middle_slices(raw) if raw.ndim == 4 else None

    def varied(self, shape: tuple[int, ...], *, windows: bool) -> dict[str, float]:
        """Volumes are shifted; they are not mirrored, since arrays do not say along which axes that is allowed."""
        del windows
        return {"shift": max(1, min(shape[1:]) // 12)} if len(shape) == 4 else {}


class Tables(Medium):
    """A row of a table: (F,) float32 features, whose order has no meaning."""

    name: ClassVar[str] = "table"
    a: ClassVar[str] = "a table"
    many: ClassVar[str] = "rows"
    values: ClassVar[str] = "features"
    flat: ClassVar[bool] = True

    @property
    def one(self) -> str:
        """The noun of a sample: a row."""
        return "row"

    def describe(self, shape: tuple[int, ...]) -> str:
        """By the number of features."""
        return f"rows of {several(shape[0], 'feature')}"
