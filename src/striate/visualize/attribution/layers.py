"""At which layers Grad-CAM can look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from striate.visualize.attribution.question import outputs_of

_MOST = 4


def grad_cam_layers(module: nn.Module, x: torch.Tensor) -> tuple[str, ...]:
    """The names of up to four modules whose maps Grad-CAM can weigh for `x` (1, C, *spatial), the last one first: of
    each size of maps with more than one position, the module that is done last. Modules that run more than once have
    no maps of their own. Empty for networks without such maps."""
    done: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == x.ndim and output.shape[2:].numel() > 1:
                done.append((name, tuple(output.shape[2:])))

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules() if name]
    try:
        with torch.no_grad():
            outputs_of(module, x)
    finally:
        for handle in handles:
            handle.remove()
    names = [name for name, _ in done]
    last = {size: name for name, size in done if names.count(name) == 1}
    return tuple(sorted(last.values(), key=names.index, reverse=True)[:_MOST]) if x.ndim > 2 else ()
