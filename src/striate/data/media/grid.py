"""Numbers with positions that are no pictures: signals, maps of measurements, volumes."""

from __future__ import annotations

from typing import ClassVar

from striate.data.media.medium import Medium


class Grids(Medium):
    """An array of an .npz: (C, *spatial) float32, with one to three axes of positions."""

    name: ClassVar[str] = "grid"
    a: ClassVar[str] = "a grid"
