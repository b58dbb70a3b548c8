"""The flips and rotations of an image."""

from __future__ import annotations

from collections.abc import Callable

import torch

Move = Callable[[torch.Tensor], torch.Tensor]
SIDES, ENDS = "left and right exchanged", "top and bottom exchanged"
MOVES: dict[str, Move] = {
    SIDES: lambda image: image.flip(-1),
    ENDS: lambda image: image.flip(-2),
    "rows and columns exchanged": lambda image: image.transpose(-1, -2),
    "a quarter turn": lambda image: image.rot90(1, (-2, -1)),
    "a quarter turn back": lambda image: image.rot90(-1, (-2, -1)),
    "half a turn": lambda image: image.rot90(2, (-2, -1)),
}
EVERY_WAY = {
    **MOVES,
    "rows and columns exchanged, and half a turn": lambda image: image.rot90(2, (-2, -1)).transpose(-1, -2),
}
"""All symmetries of a square."""
