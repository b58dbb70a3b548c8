"""What a task knows of the input of an exported network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Frame:
    """Where a picture lies in the input of an exported network, as tensors that follow the size of the picture.

    The point (x, y) of the picture lies at `scale` · (x, y) + `offset` in the input.
    """

    scale: torch.Tensor
    """(2,) factors of x and y."""
    offset: torch.Tensor
    """(2,) in pixels of the input."""
    size: torch.Tensor
    """(2,) width and height of the picture in pixels."""
    sides: tuple[Any, Any]
    """Height and width of the picture as integers."""
    resized: bool = True
    """Whether the input has another size than the picture."""

    def in_picture(self, points: torch.Tensor) -> torch.Tensor:
        """(…, 2) points in pixels of the picture, from points in pixels of the input."""
        return (points - self.offset) / self.scale
