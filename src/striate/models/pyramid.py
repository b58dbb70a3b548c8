"""A network as a pyramid of feature maps, for the heads of tasks that locate something.

The network's output layer, and whatever only that needs, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from striate.errors import ModelError
from striate.models.features import FeatureMap, network_features
from striate.models.preserved_state import preserved, zero_input
from striate.observe.module_calls import ModuleCall, module_calls
from striate.wording import show_shape


class Pyramid(nn.Module):
    """A network that returns the maps (N, C, H, W) of the modules `levels` of `body`, from fine to coarse, instead of
    the outputs of `body`."""

    def __init__(self, body: nn.Module, levels: tuple[FeatureMap, ...]) -> None:
        super().__init__()
        self.body, self.levels = body, levels

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The maps of a batch (N, C, H, W)."""
        return maps_of(self.body, self.levels, x)


def maps_of(network: nn.Module, parts: Sequence[FeatureMap], x: torch.Tensor) -> list[torch.Tensor]:
    """The maps (N, C, H, W) of the modules `parts` of a network for a batch, in the order of `parts`."""
    found: dict[str, torch.Tensor] = {}

    def keep(call: ModuleCall) -> None:
        found[call.name] = call.output

    with module_calls({part.name: network.get_submodule(part.name) for part in parts}, end=keep):
        network(x)
    return [found[part.name] for part in parts]


def as_pyramid(body: nn.Module, input_shape: tuple[int, ...], finest: int) -> Pyramid:
    """The pyramid of the maps that `body` has for inputs of `input_shape` (C, H, W), from the largest whose longer side
    is at most `finest` on; if all are larger, of the smallest. Layers that only the output of `body` needs become
    identities.

    Raises ModelError where `body` has no maps.
    """
    x = zero_input(body, input_shape, 2)
    offered = [part for part in network_features(body, x).pyramid if len(part.size) == 2]
    offered.sort(key=lambda part: -part.size[0] * part.size[1])
    levels = [part for part in offered if max(part.size) <= finest] or offered[-1:]
    if not levels:
        raise ModelError(
            f"model {type(body).__name__}",
            f"no map with several positions for inputs of {show_shape(input_shape)}",
            "a network with convolutions, whose maps locate objects",
            "--model auto, or a network with convolutions: --model resnet18",
        )
    pyramid = Pyramid(body, tuple(levels))
    _without_outputs(pyramid, x)
    return pyramid


def _without_outputs(pyramid: Pyramid, x: torch.Tensor) -> None:
    """Replace the layers with weights that the maps do not depend on, which have no gradient, with identities."""
    body = pyramid.body
    with preserved(pyramid), torch.enable_grad():
        weights = [parameter for parameter in body.parameters() if parameter.requires_grad]
        total = sum((part.float().sum() for part in pyramid(x)), torch.zeros(()))
        found = torch.autograd.grad(total, weights, allow_unused=True)
    unused = {id(parameter) for parameter, gradient in zip(weights, found, strict=True) if gradient is None}
    taken = []
    for name, module in list(body.named_modules()):
        own = list(module.parameters())
        if name and own and not list(module.children()) and all(id(parameter) in unused for parameter in own):
            taken.append((name, module))
            body.set_submodule(name, nn.Identity())
    try:
        with preserved(pyramid), torch.no_grad():
            pyramid(x)
    except Exception:  # later layers need their output shapes, so they stay
        for name, module in taken:
            body.set_submodule(name, module)
