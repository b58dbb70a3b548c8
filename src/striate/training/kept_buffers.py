"""What a forward pass changes in a network, kept to be put back."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class KeptBuffers:
    """Buffers of networks as they were before a step: what a forward pass changes (statistics of normalizations)."""

    def __init__(self, modules: Iterable[nn.Module | None]) -> None:
        parts = [part for module in modules if module is not None for part in module.modules()]
        self._places = [(part, name) for part in parts for name, _ in part.named_buffers(recurse=False)]
        self._kept: list[torch.Tensor] = []

    @torch.no_grad()
    def take(self) -> None:
        """Copy them as they are now."""
        if not self._places:
            return
        now = [part._buffers[name] for part, name in self._places]
        tensors = [tensor for tensor in now if tensor is not None]
        if [(t.shape, t.dtype) for t in self._kept] == [(t.shape, t.dtype) for t in tensors]:
            torch._foreach_copy_(self._kept, tensors)
        else:
            self._kept = [tensor.clone() for tensor in tensors]

    @torch.no_grad()
    def put_back(self) -> None:
        """Make them what they were when they were taken."""
        now = [part._buffers[name] for part, name in self._places]
        for tensor, kept in zip([tensor for tensor in now if tensor is not None], self._kept, strict=True):
            tensor.copy_(kept)
