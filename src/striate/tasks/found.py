"""The parts of a prediction that can be cut out of its picture."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """A rectangle around a detected object or point set, in pixels of the file."""

    label: str
    """Class of the object; empty where no class was requested."""
    probability: float
    """Its probability, 0 to 1."""
    center: tuple[float, float]
    """(x, y)."""
    sides: tuple[float, float]
    """(width, height)."""
    angle: float = 0.0
    """Rotation in degrees, counterclockwise."""
