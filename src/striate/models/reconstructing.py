"""What a network offers that classifies, and can give back its input instead: Boltzmann machines, sparse coding."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class Reconstructing(Protocol):
    """A network of the zoo with a form that reconstructs images."""

    def for_reconstruction(self, *, logits: bool) -> nn.Module:
        """The network, changed in place, so that it gives (N, *input_shape): pixels from 0 to 1, or their `logits`."""
        ...


def takes_unit_inputs(network: nn.Module) -> bool:
    """Whether its inputs are values from 0 to 1, as images have them, instead of standardized ones: where it has an
    attribute `unit_inputs` that is true."""
    return bool(getattr(network, "unit_inputs", False))
