"""What the hidden units answer: for the sparsity penalty, and for measuring how sparse they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from striate.layers.maxout import Maxout

ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Hardswish,
    nn.Softplus, nn.Sigmoid, nn.Tanh, Maxout,
)  # fmt: skip
SILENT = 0.01  # of the layer's root mean square: below it, a unit counts as silent


def activation_names(module: nn.Module) -> list[str]:
    """Names of the activation modules; activations that are called as functions cannot be seen."""
    return [name for name, m in module.named_modules() if isinstance(m, ACTIVATIONS)]


@contextmanager
def hidden_outputs(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the outputs of all activation modules while open. Whoever runs the network empties the list."""
    outputs: list[torch.Tensor] = []

    def keep(_: nn.Module, __: object, output: torch.Tensor) -> None:
        outputs.append(output)

    hooks = [m.register_forward_hook(keep) for m in module.modules() if isinstance(m, ACTIVATIONS)]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def sparsity_penalty(outputs: list[torch.Tensor]) -> torch.Tensor:
    """Scalar: the mean absolute output of each layer, summed over layers (an L1 penalty on activations)."""
    return torch.stack([output.float().abs().mean() for output in outputs]).sum()


@torch.no_grad()
def silent_and_all(outputs: list[torch.Tensor]) -> torch.Tensor:
    """(2,) float64: how many outputs are silent (0, or below 0.01 of their layer's root mean square), of how many."""
    total = torch.zeros(2, dtype=torch.float64)
    for output in outputs:
        limit = SILENT * output.float().square().mean().sqrt()
        total += torch.tensor([float((output.abs() <= limit).sum()), float(output.numel())], dtype=torch.float64)
    return total
