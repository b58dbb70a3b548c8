"""The interface of networks that can classify or reconstruct their input: Boltzmann machines, sparse coding."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Reconstructing(Protocol):
    """A network of the zoo with a form that reconstructs images."""

    def for_reconstruction(self, *, logits: bool) -> nn.Module:
        """Change the network in place so that it outputs (N, *input_shape): pixels from 0 to 1, or their `logits`."""
        ...


def takes_unit_inputs(network: nn.Module) -> bool:
    """Whether the network takes inputs from 0 to 1, not standardized ones: it then has a true attribute
    `unit_inputs`."""
    return bool(getattr(network, "unit_inputs", False))
