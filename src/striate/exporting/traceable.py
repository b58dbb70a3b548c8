"""What formats know of a network: a module that takes one tensor, and what that and its outputs are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Traceable(nn.Module):
    """A network with everything around it that a file has: one input tensor to a tuple of tensors."""

    module: nn.Module
    """The network itself."""

    any_side = False
    """Whether sides may be so short that the deepest maps have one position."""

    @property
    def input_name(self) -> str:
        """What the input is called."""
        raise NotImplementedError

    @property
    def output_names(self) -> tuple[str, ...]:
        """What the outputs are called, in their order."""
        raise NotImplementedError

    @property
    def dynamic_axes(self) -> dict[int, str]:
        """The axes of the input whose length is free, and what they are called."""
        raise NotImplementedError

    def example(self, count: int = 2) -> torch.Tensor:
        """An input that it can be traced with."""
        raise NotImplementedError

    @property
    def described(self) -> dict[str, Any]:
        """The input as a reader of the file needs it: its name, its type, and its axes."""
        example = self.example()
        shape = [self.dynamic_axes.get(axis, side) for axis, side in enumerate(example.shape)]
        return {"name": self.input_name, "type": str(example.dtype).removeprefix("torch."), "shape": shape}
