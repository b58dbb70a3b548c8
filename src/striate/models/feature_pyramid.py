"""Feature maps of any network at several strides, each with the context of the coarser ones.

Lin et al., "Feature pyramid networks for object detection", CVPR 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.models.features import FeatureMap, network_features, output_layer
from striate.models.preserved_state import preserved, zero_input
from striate.models.pyramid import maps_of
from striate.observe.module_calls import module_calls


def stride_of(part: FeatureMap, size: Sequence[int]) -> float:
    """Pixels of an input of (height, width) `size` between two positions of a map."""
    return math.sqrt(math.prod(size) / math.prod(part.size))


class FeaturePyramid(nn.Module):
    """A network whose maps (N, C, h, w) are merged into maps with `channels` channels: one for each of `strides`, or
    fewer if the network has fewer.

    The attribute `strides` has the strides of the output maps, finest first. Coarser maps of the network only provide
    context. Layers after the network's last map have no effect: an output layer there is removed. Raises ModelError for
    a network without maps at such strides."""

    def __init__(
        self, network: nn.Module, input_shape: tuple[int, ...], strides: Sequence[float], channels: int
    ) -> None:
        super().__init__()
        size = input_shape[1:]
        offered = network_features(network, zero_input(network, input_shape, 2)).pyramid
        self.taken = _choose(offered, size, strides)
        count = min(len(strides), len(self.taken))
        self.strides = tuple(stride_of(part, size) for part in self.taken[:count])
        self.backbone = network
        if (last := output_layer(network)) and _behind(network, last, self.taken, input_shape):
            owner = network.get_submodule(last.rpartition(".")[0])
            setattr(owner, last.rpartition(".")[2], nn.Identity())
        self.lateral = nn.ModuleList(nn.Conv2d(part.channels, channels, 1) for part in self.taken)
        self.smooth = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(count))
        for layer in (*self.lateral, *self.smooth):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """One map for each of `strides`."""
        found = maps_of(self.backbone, self.taken, x)
        above: torch.Tensor | None = None
        maps = []
        for place in reversed(range(len(self.taken))):
            here = self.lateral[place](found[place])
            if above is not None:
                here = here + functional.interpolate(above, here.shape[2:], mode="nearest")
            above = here
            if place < len(self.smooth):
                maps.append(self.smooth[place](here))
        return maps[::-1]


def _behind(network: nn.Module, layer: str, maps: Sequence[FeatureMap], input_shape: tuple[int, ...]) -> bool:
    """Whether a layer runs after all of the maps, so that they do not depend on it."""
    names = {layer, *(part.name for part in maps)}
    ended: list[str] = []
    with (
        preserved(network),
        torch.no_grad(),
        module_calls({name: network.get_submodule(name) for name in names}, end=lambda call: ended.append(call.name)),
    ):
        network(zero_input(network, input_shape, 2))
    return layer not in ended[: 1 + max(ended.index(part.name) for part in maps)]


def _choose(offered: Sequence[FeatureMap], size: Sequence[int], strides: Sequence[float]) -> tuple[FeatureMap, ...]:
    """The network's maps from the finest of `strides` on, each of about half the size of the one before; at least
    one."""
    by_stride = sorted(offered, key=lambda part: stride_of(part, size))
    finest = min(strides)
    # A first map up to 1.5 times as fine as requested will do; finer ones would only cost time.
    coarse = [part for part in by_stride if stride_of(part, size) >= finest / 1.5]
    if not coarse:
        coarse = by_stride[-1:]
    chosen: list[FeatureMap] = []
    for part in coarse:
        if not chosen or stride_of(part, size) >= 1.5 * stride_of(chosen[-1], size):
            chosen.append(part)
    if not chosen:
        raise ModelError(
            "model", "a network without maps of several positions", "maps (N, C, h, w)", "--model small-resnet"
        )
    return tuple(chosen)
