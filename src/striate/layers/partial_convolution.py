"""Convolution along a connection table: each output map sees some of the input maps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from striate.errors import UsageError


class PartialConvolution(nn.Module):
    """Convolution whose output map k sees the input maps `table[k]`: (N, C, H, W) to (N, len(table), H', W').

    `weight` holds one kernel a connection, (connections, kernel, kernel), in the order of the table; `bias` one number
    an output map. So absent connections have no parameters; they are computed, as zeros, in one dense convolution.
    First weights are uniform in ±1 / √fan-in of each map, as those of torch's convolutions.
    Raises UsageError for an output map that sees nothing, one input twice, or one that there is not.
    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998, table I.
    """

    def __init__(self, in_channels: int, table: Sequence[Sequence[int]], kernel_size: int) -> None:
        super().__init__()
        for number, seen in enumerate(table):
            if not seen or len(set(seen)) < len(seen) or not set(seen) <= set(range(in_channels)):
                fitting = sorted(set(seen) & set(range(in_channels))) or [0]
                expected = f"distinct inputs of 0 to {in_channels - 1}, at least one"
                raise UsageError("table", f"map {number} sees {tuple(seen)}", expected, f"table[{number}] = {fitting}")
        self.in_channels, self.out_channels, self.kernel_size = in_channels, len(table), kernel_size
        # Numbers instead of buffers: on the meta device, or after to_empty, buffers would have no values.
        self.table = tuple(tuple(seen) for seen in table)
        self.weight = nn.Parameter(torch.empty(sum(map(len, self.table)), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws first weights and biases."""
        for number, kernels in enumerate(self.weight.split([len(seen) for seen in self.table])):
            bound = 1 / math.sqrt(kernels.numel())
            nn.init.uniform_(kernels, -bound, bound)
            nn.init.uniform_(self.bias[number], -bound, bound)

    def dense_weight(self) -> torch.Tensor:
        """The kernels as those of a convolution, (out, in, kernel, kernel), with zeros where nothing is connected."""
        pairs = [(number, channel) for number, seen in enumerate(self.table) for channel in seen]
        outputs, inputs = torch.tensor(pairs, device=self.weight.device).T
        zeros = self.weight.new_zeros(self.out_channels, self.in_channels, self.kernel_size, self.kernel_size)
        return zeros.index_put((outputs, inputs), self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, self.dense_weight(), self.bias)

    def extra_repr(self) -> str:
        connections = f"{len(self.weight)} of {self.in_channels * self.out_channels} connections"
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, {connections}"
