"""What a task is told where its network becomes a file that other programs run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Frame:
    """Where the picture lies in the input of an exported network, as tensors that follow its size: its point (x, y) is
    at `scale` · (x, y) + `offset`, both (2,). `size` (2,) is its width and height in pixels, `sides` its height and
    width as whole numbers. `resized`: whether the input is of another size."""

    scale: torch.Tensor
    offset: torch.Tensor
    size: torch.Tensor
    sides: tuple[Any, Any]
    resized: bool = True

    def in_picture(self, points: torch.Tensor) -> torch.Tensor:
        """(…, 2) points in pixels of the input as they are in the picture."""
        return (points - self.offset) / self.scale
