"""ReLU after max pooling instead of before it: the same numbers from a fraction of the operations.

A function that never falls leaves the largest of several numbers the largest, so outputs are equal. The gradient goes
to the same number, or to none where the largest is not above 0. Only ReLU, whose results are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from striate.training.config import ExecutionConfig

_POOLS = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)


@contextmanager
def pooling_first(module: nn.Module, execution: ExecutionConfig | None = None) -> Iterator[None]:
    """While open, an `nn.Sequential` in `module` computes each ReLU after the max pooling that follows it.

    Outputs and gradients are equal. Only calls of the whole sequence change; a layer with hooks keeps its place, and
    names, parameters and the order of layers stay. Nothing changes where `execution` compiles the network.
    """
    compiled = execution is not None and execution.compile not in (None, "off")
    changed = []
    try:
        for part in () if compiled else module.modules():
            if not isinstance(part, nn.Sequential) or "forward" in vars(part):
                continue
            if type(part).forward is nn.Sequential.forward:
                layers = list(part._modules.values())
                if any(_exchangeable(*pair) for pair in pairwise(layers)):
                    vars(part)["forward"] = _forward(layers)
                    changed.append(part)
        yield
    finally:
        for part in changed:
            del vars(part)["forward"]


def _forward(layers: list[nn.Module]) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        order = list(layers)
        for place, (first, second) in enumerate(pairwise(layers)):
            # Checked at each call: hooks may have been registered since.
            if _exchangeable(first, second) and not (_hooked(first) or _hooked(second)):
                order[place : place + 2] = second, first
        for layer in order:
            x = layer(x)
        return x

    return forward


def _exchangeable(first: nn.Module, second: nn.Module) -> bool:
    return type(first) is nn.ReLU and isinstance(second, _POOLS) and not second.return_indices


def _hooked(layer: nn.Module) -> bool:
    own = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return bool(own) or "forward" in vars(layer) or bool(torch_module._has_any_global_hook())
