"""A decoder for masks over any network: its pyramid of maps, merged from the coarsest to the finest.

Lin, Dollár, Girshick, He, Hariharan and Belongie, "Feature pyramid networks for object detection", CVPR 2017, with the
fine maps of a U-Net (Ronneberger et al. 2015). Maps are enlarged by whole factors from the upper left corner, so that a
part of an image that begins at a multiple of the coarsest map's stride gives what the whole image gives there.
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
"""Channels of the merged maps, and of those of half the size of the image, whose positions are many."""
FINE_REDUCTION = 2


class MaskDecoder(nn.Module):
    """Maps of growing size (N, C, h, w) to (N, outputs, h, w) of the finest one.

    Each map is projected to as many channels as the merged one has, normalized, added to the enlarged coarser one, and
    mixed by a 3×3 convolution. `channels` and `reductions` of the maps, the finest first.
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
    """(N, C, *size) bilinear, by the whole factor by which sizes that are rounded up were divided; resized where the
    sizes do not go together so."""
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
    """`enlarged` of sizes that are not known yet, by the factors of those that the network is traced with: a comparison
    would hold for these alone."""
    from torch.fx.experimental.symbolic_shapes import optimization_hint

    (height, width), own = size, x.shape[2:]
    down, right = (
        max(1, round(optimization_hint(to) / optimization_hint(side))) for side, to in zip(own, size, strict=True)
    )
    out = functional.interpolate(x, [own[0] * down, own[1] * right], mode="bilinear")
    return upper_left(out, height, width)


def upper_left(x: torch.Tensor, height: Any, width: Any) -> torch.Tensor:
    """(N, C, height, width) of maps, copied: a traced program asserts of a part of them that its strides are as at the
    size it was traced with."""
    return x.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))


def _mix(in_channels: int, channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


class _Outside(fx.Tracer):
    """Traces what lies around the modules `taps`, and nothing inside of any other module."""

    def __init__(self, taps: Sequence[str]) -> None:
        super().__init__()
        self._taps = taps

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        del m
        return not any(tap.startswith(f"{module_qualified_name}.") for tap in self._taps)


def with_decoder(network: nn.Module, input_shape: tuple[int, ...], outputs: int) -> MaskNetwork:
    """The layers of `network` up to its coarsest map, with a decoder that gives `outputs` channels at each position of
    images of `input_shape` (C, H, W). What comes after (a classifier) is left out.

    Raises ModelError where it has no smaller maps, or does not give these maps by calls that can be followed.
    """
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
        # Otherwise layers that draw random numbers (dropout) would keep the classifier that they stand in.
        graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
        backbone = fx.GraphModule(network, graph)
    except StriateError:
        raise
    except Exception as error:  # whatever the code of a network makes of values that are not there yet
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            where, f"a network that torch.fx cannot trace: {reason}", "a forward that calls modules", remedy
        ) from None
    backbone.delete_all_unused_submodules()
    reductions = [input_shape[1] / part.size[0] for part in smaller]
    return MaskNetwork(backbone, MaskDecoder([part.channels for part in smaller], reductions, outputs))
