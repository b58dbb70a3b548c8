"""What one sample costs: parameters and multiply–accumulates."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """Numbers in all parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply–accumulates of convolutions and matrix products for one sample in eval mode, biases excluded.

    Counted in a forward pass of a copy by torch's own counter, which gives 2 FLOPs for each.
    """
    trial = copy.deepcopy(module).eval()
    with FlopCounterMode(display=False) as counter:
        _forward(trial, input_shape)
    return int(counter.get_total_flops()) // 2


def layer_rows(module: nn.Module, input_shape: tuple[int, ...]) -> tuple[tuple[str, str, str, int], ...]:
    """Name, class, output shape without batch, and own parameters of each leaf module, in the order of execution."""
    trial = copy.deepcopy(module).eval()
    rows: list[tuple[str, str, str, int]] = []

    def note(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(layer: nn.Module, _: object, output: object) -> None:
            shape = "×".join(map(str, output.shape[1:])) if isinstance(output, torch.Tensor) else "–"
            rows.append((name, type(layer).__name__, shape, count_parameters(layer)))

        return hook

    for name, layer in trial.named_modules():
        if not any(True for _ in layer.children()):
            layer.register_forward_hook(note(name))
    _forward(trial, input_shape)
    return tuple(rows)


def _forward(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    with torch.no_grad():
        module(torch.zeros(1, *input_shape, device=device))
