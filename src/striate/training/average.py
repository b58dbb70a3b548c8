"""The exponential moving average of the weights: a second network that answers more steadily than the one in training.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; with a decay that grows from 0.1 as
in the training of Inception (Szegedy et al. 2015), so that the first steps are soon forgotten.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from striate.models.untouched import copying_explained


def make_average(module: nn.Module, decay: float | None) -> AveragedModel | None:
    """An average that begins as `module` is; None where `decay` is 0 or None. Buffers are averaged like weights.

    Raises ModelError for a network that cannot be copied.
    """
    if not decay:
        return None

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], _: Tensor | int) -> None:
        # Of the count itself, which lies on the CPU: `steps` is a copy of it on the accelerator, to be waited for.
        count = int(average.n_averaged)
        weight = 1 - min(decay, (1 + count) / (10 + count))
        if averaged[0].is_floating_point():
            torch._foreach_lerp_(averaged, current, weight)
        else:  # counts of batches
            torch._foreach_copy_(averaged, current)

    with copying_explained(module):
        average = AveragedModel(module, multi_avg_fn=update, use_buffers=True)  # type: ignore[arg-type]
    return average.requires_grad_(False).eval()
