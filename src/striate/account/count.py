"""What one sample costs: parameters and multiply–accumulates."""

from __future__ import annotations

from torch import nn

from striate.account.observing.observation import observe_network


def count_parameters(module: nn.Module) -> int:
    """Numbers in all parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply–accumulates of convolutions and matrix products for one sample in eval mode, biases excluded.

    The same number as `summarize` gives. Raises ModelError where the network does not take the input.
    """
    return observe_network(module, input_shape, memory=False).macs
