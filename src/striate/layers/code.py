"""The code of an autoencoder, and decoder layers that share the weights of the encoder."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

CODE_ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "linear": lambda x: x,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "tanh": torch.tanh,
}
"""The activations of a code's units, by name."""


class Code(nn.Linear):
    """A fully connected layer from (N, F) to the code (N, `n`), followed by its `activation`."""

    def __init__(self, inputs: int, n: int, activation: str = "linear") -> None:
        super().__init__(inputs, n)
        self.activation = activation

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, F) to (N, n)."""
        return CODE_ACTIVATIONS[self.activation](super().forward(input))

    def extra_repr(self) -> str:
        """With the activation."""
        return f"{super().extra_repr()}, activation={self.activation}"


class Transposed(nn.Module):
    """The transpose of a fully connected layer or a convolution of stride 1, `of`, with a bias of its own.

    The weights belong to `of` and get the gradients of both layers. For a convolution with C channels and K filters,
    the transpose has K channels and C filters, kernels rotated by 180°, and `padding` on each side."""

    def __init__(self, of: nn.Linear | nn.Conv2d, padding: int = 0) -> None:
        super().__init__()
        self._of = (of,)  # in a tuple, so that it is not a child of this module as well
        self.padding = padding
        self.bias = nn.Parameter(torch.zeros(of.weight.shape[1], device=of.weight.device, dtype=of.weight.dtype))

    @property
    def weight(self) -> torch.Tensor:
        """The weight in the form of `nn.Linear` or `nn.Conv2d`: (outputs, inputs) or (C, K, h, w)."""
        weight = self._of[0].weight
        return weight.transpose(0, 1) if weight.ndim == 2 else weight.transpose(0, 1).flip(2, 3)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(N, outputs of `of`) to (N, its inputs), or (N, K, H, W) to (N, C, …)."""
        if self.weight.ndim == 2:
            return functional.linear(input, self.weight, self.bias)
        return functional.conv2d(input, self.weight, self.bias, padding=self.padding)


def code_layer(network: nn.Module) -> Code | None:
    """The code layer of a network, the last one if there are several; None if there is none."""
    return next((module for module in reversed(list(network.modules())) if isinstance(module, Code)), None)
