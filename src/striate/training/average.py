"""The exponential moving average of the weights: a second network with steadier predictions.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992. The decay grows from 0.1, as in the
training of Inception (Szegedy et al. 2015), so that the average soon forgets the first steps.
"""

from __future__ import annotations

import torch
from torch import nn

from striate.models.preserved_state import copied


class MovingAverage:
    """The averaged network. `module`: a copy in eval mode, without gradients, whose weights and buffers follow those of
    the original. `count`: number of updates."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copied(module).requires_grad_(False).eval()
        self.decay, self.count = decay, 0
        # Collected once: doing it at each step takes longer than averaging a small network.
        self._weights = list(self.module.parameters()), list(module.parameters())
        self._buffers = _buffers(self.module), _buffers(module)

    @torch.no_grad()
    def update(self) -> None:
        """Move one step towards the current weights; the first update copies them. Counts of batches are copied."""
        weight = 1.0 if self.count == 0 else 1 - min(self.decay, (1 + self.count) / (10 + self.count))
        averaged: list[torch.Tensor] = [*self._weights[0]]
        current: list[torch.Tensor] = [*self._weights[1]]
        for (owner, name), (original, _) in zip(*self._buffers, strict=True):
            mine, now = owner._buffers[name], original._buffers[name]
            assert mine is not None and now is not None, "buffers do not come and go"
            if mine.is_floating_point():
                averaged.append(mine)
                current.append(now)
            else:
                mine.copy_(now)
        if averaged:
            torch._foreach_lerp_(averaged, current, weight)
        self.count += 1


def make_average(module: nn.Module, decay: float | None) -> MovingAverage | None:
    """An average that begins as a copy of `module`; None where `decay` is 0 or None. Raises ModelError for a network
    that cannot be copied."""
    return MovingAverage(module, decay) if decay else None


def _buffers(module: nn.Module) -> list[tuple[nn.Module, str]]:
    """Owner and name of each buffer: unlike parameters, buffers may be replaced by other tensors."""
    parts = dict(module.named_modules())
    names = [name.rpartition(".") for name, _ in module.named_buffers()]
    return [(parts[owner], name) for owner, _, name in names]
