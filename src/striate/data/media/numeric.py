"""Media that are arrays of numbers: grids (signals, maps of measurements, volumes) and tables."""

from __future__ import annotations

from typing import ClassVar

from striate.data.media.medium import Medium


class Grids(Medium):
    """An array of an .npz: (C, *spatial) float32, with one to three axes of positions."""

    name: ClassVar[str] = "grid"
    a: ClassVar[str] = "a grid"


class Tables(Medium):
    """A row of a table: (F,) float32 features, whose order means nothing."""

    name: ClassVar[str] = "table"
    a: ClassVar[str] = "a table"
    many: ClassVar[str] = "rows"
    values: ClassVar[str] = "features"
    flat: ClassVar[bool] = True
