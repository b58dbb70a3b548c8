"""Maps of any network at several strides, each with the context of the coarser ones.

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
    """A network and, of its maps (N, C, h, w) from the finest stride that is wanted on, as many with `channels`.

    `strides` are those of the maps that it gives, finest first. Coarser maps of the network give context alone. What a
    network computes behind its last map has no effect: an output layer there is taken out.
    Raises ModelError for a network without maps at such strides.
    """

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
    """Whether a layer is computed after all of the maps, which then do not depend on it."""
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
    """The maps from the finest of `strides` on, which halve from one to the next, as near to that as the network has;
    at least one."""
    by_stride = sorted(offered, key=lambda part: stride_of(part, size))
    finest = min(strides)
    # Twice as coarse as asked for is no more than that; anything finer is only cost.
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
