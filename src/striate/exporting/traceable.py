"""The interface of networks for export formats: a module that takes one tensor, and the names of input and outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Traceable(nn.Module):
    """A network with all that its file computes: from one input tensor to a tuple of tensors."""

    module: nn.Module
    """The network itself."""

    any_side = False
    """Whether sides may be so short that the deepest maps have one position."""

    @property
    def input_name(self) -> str:
        """Name of the input."""
        raise NotImplementedError

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        raise NotImplementedError

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """The axes of the input that may have any length, and their names."""
        raise NotImplementedError

    def example(self, count: int = 2) -> torch.Tensor:
        """An input to trace the network with."""
        raise NotImplementedError

    @property
    def described(self) -> dict[str, Any]:
        """The input for readers of the file: its name, its type, and its axes."""
        example = self.example()
        shape = [self.dynamic_axes.get(axis, side) for axis, side in enumerate(example.shape)]
        return {"name": self.input_name, "type": str(example.dtype).removeprefix("torch."), "shape": shape}
