"""What of a prediction can be cut out of its picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """A rectangle around something that was found, in pixels of the file: its `center` (x, y) and `sides` (width,
    height), turned by `angle` degrees counterclockwise; what it is (empty where nobody asked), and how probable."""

    label: str
    probability: float
    center: tuple[float, float]
    sides: tuple[float, float]
    angle: float = 0.0
