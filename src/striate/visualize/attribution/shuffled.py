"""A network whose weights have been shuffled: what it would be if it had learned nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def shuffled(module: nn.Module, seed: int) -> Iterator[None]:
    """While the body runs, the numbers of each parameter lie in another, random order; what they say is lost, how large
    they are is not. Of a network with random weights this is another one of its kind. Parameters get other memory
    meanwhile, so that no bit of theirs is ever written."""
    generator = torch.Generator().manual_seed(seed)
    before = [(parameter, parameter.data) for parameter in module.parameters()]
    try:
        for parameter, values in before:
            order = torch.randperm(values.numel(), generator=generator).to(values.device)
            parameter.data = values.reshape(-1)[order].view(values.shape)
        yield
    finally:
        for parameter, values in before:
            parameter.data = values
