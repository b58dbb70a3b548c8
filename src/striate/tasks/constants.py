"""Numbers of a task as tensors where they are needed, made once: a copy to an accelerator is waited for."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> torch.Tensor:
    """(len(values),) float32 on `device`; the same object each time, so nobody may write into it."""
    # A tensor made in inference mode could not take part in a later training step.
    with torch.inference_mode(False):
        return torch.tensor(values, device=device)
