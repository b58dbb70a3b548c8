"""A decoder for masks on any network: it merges the network's pyramid of maps, from the coarsest to the finest.

Lin, Dollár, Girshick, He, Hariharan and Belongie, "Feature pyramid networks for object detection", CVPR 2017, with the
fine maps of a U-Net (Ronneberger et al. 2015). Maps are enlarged by whole factors from the upper left corner, so that a
crop that begins at a multiple of the coarsest map's stride has the same output as that part of the full image.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from striate.errors import ModelError, StriateError
from striate.models.features import network_features
from striate.models.initialization.initialize import initialize_output
from striate.models.preserved_state import zero_input

WIDTH, FINE = 64, 32
"""Channels of the merged maps, and of those of half the image's size, which have many positions."""
FINE_REDUCTION = 2


class MaskDecoder(nn.Module):
    """From maps of increasing size (N, C, h, w) to (N, outputs, h, w), at the size of the finest.

    Each map is projected to the channels of the merged map, normalized, added to the enlarged coarser map, and mixed by
    a 3×3 convolution. `channels` and `reductions` (strides) are those of the maps, the finest first.
    """

    def __init__(self, channels: Sequence[int], reductions: Sequence[float], outputs: int) -> None:
        super().__init__()
        widths = [FINE if reduction <= FINE_REDUCTION else WIDTH for reduction in reductions]
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(own, width, 1, bias=False), nn.BatchNorm2d(width))
            for own, width in zip(channels, widths, strict=True)
        )
        self.mix = nn.ModuleList(_mix(width, width) for width in widths)
        self.narrow = nn.ModuleList(
            nn.Identity() if fine == coarse else nn.Conv2d(coarse, fine, 1, bias=False)
            for fine, coarse in itertools.pairwise(widths)
        )
        self.head = nn.Conv2d(widths[0], outputs, 1)
        initialize_output(self.head)

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor:
        merged = self.mix[-1](functional.relu(self.lateral[-1](maps[-1])))
        for level in reversed(range(len(maps) - 1)):
            own = self.lateral[level](maps[level])
            coarser = enlarged(self.narrow[level](merged), own.shape[2:])
            merged = self.mix[level](functional.relu(own + coarser))
        out: torch.Tensor = self.head(merged)
        return out


class MaskNetwork(nn.Module):
    """A `backbone` that gives several maps, and a decoder: (N, C, H, W) to (N, outputs, H, W), of any size."""

    def __init__(self, backbone: nn.Module, decoder: MaskDecoder) -> None:
        super().__init__()
        self.backbone, self.decoder = backbone, decoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return enlarged(self.decoder(self.backbone(x)), x.shape[2:])


def enlarged(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """x, enlarged bilinearly to (N, C, *size): by a whole factor and cropped, where x has `size` divided by that factor
    and rounded up; else resized."""
    if torch.compiler.is_exporting():
        return _enlarged_as_traced(x, size)
    factors = [max(1, round(to / own)) for own, to in zip(x.shape[2:], size, strict=True)]
    if any(
        (own - 1) * factor >= to or own * factor < to
        for own, to, factor in zip(x.shape[2:], size, factors, strict=True)
    ):
        return functional.interpolate(x, list(size), mode="bilinear")
    out = functional.interpolate(x, scale_factor=[float(factor) for factor in factors], mode="bilinear")
    return out[..., : size[0], : size[1]]


def _enlarged_as_traced(x: torch.Tensor, size: Sequence[Any]) -> torch.Tensor:
    """`enlarged` for sizes that are symbolic while the network is traced: it uses the factors of the traced sizes, as a
    comparison would restrict the program to these."""
    from torch.fx.experimental.symbolic_shapes import optimization_hint

    (height, width), own = size, x.shape[2:]
    down, right = (
        max(1, round(optimization_hint(to) / optimization_hint(side))) for side, to in zip(own, size, strict=True)
    )
    out = functional.interpolate(x, [own[0] * down, own[1] * right], mode="bilinear")
    return upper_left(out, height, width)


def upper_left(x: torch.Tensor, height: Any, width: Any) -> torch.Tensor:
    """The upper left part (N, C, height, width) of maps, as a copy: for a view, a traced program would assert the
    strides of the size that it was traced with."""
    return x.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))


def _mix(in_channels: int, channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class _Outside(fx.Tracer):
    """Traces the modules that contain `taps`; all other modules are leaves."""

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self._taps = taps

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del m
        return not any(tap.startswith(f"{module_qualified_name}.") for tap in self._taps)


def with_decoder(network: nn.Module, input_shape: tuple[int, ...], outputs: int) -> MaskNetwork:
    """The layers of `network` up to its coarsest map, with a decoder that outputs `outputs` channels at each position
    of images of `input_shape` (C, H, W). Later layers (a classifier) are left out.

    Raises ModelError where the network has no maps smaller than the image, or torch.fx cannot trace it."""
    where = f"{type(network).__name__} as the backbone of masks"
    usual = "small-unet3d" if len(input_shape) == 4 else "small-unet"
    remedy = f"let the network output a value for each position, or use --model {usual}"
    if len(input_shape) != 3:
        raise ModelError(where, f"inputs of shape {input_shape}", "images (C, H, W)", remedy)
    pyramid = network_features(network, zero_input(network, input_shape, 2)).pyramid
    smaller = [
        part for part in pyramid if part.name and part.size[0] < input_shape[1] and part.size[1] < input_shape[2]
    ]
    smaller.sort(key=lambda part: -part.size[0])
    if not smaller:
        raise ModelError(where, "no feature map smaller than the image", "feature maps of several sizes", remedy)
    taps = [part.name for part in smaller]
    try:
        graph = _Outside(taps).trace(network)
        nodes = {str(node.target): node for node in graph.nodes if node.op == "call_module"}
        for node in graph.nodes:
            if node.op == "output":
                node.args = (tuple(nodes[tap] for tap in taps),)
        # By default, torch keeps layers that draw random numbers (dropout), and with them the classifier.
        graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
        backbone = fx.GraphModule(network, graph)
    except StriateError:
        raise
    except Exception as error:  # a network's code may raise anything for symbolic values
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            where, f"a network that torch.fx cannot trace: {reason}", "a forward that calls modules", remedy
        ) from None
    backbone.delete_all_unused_submodules()
    reductions = [input_shape[1] / part.size[0] for part in smaller]
    return MaskNetwork(backbone, MaskDecoder([part.channels for part in smaller], reductions, outputs))
