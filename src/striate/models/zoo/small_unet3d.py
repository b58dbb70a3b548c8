"""A small 3-D U-Net. Çiçek, Abdulkadir, Lienkamp, Brox and Ronneberger, "3D U-Net: learning dense volumetric
segmentation from sparse annotation", MICCAI 2016.

New: the U-Net on volumes, each halving along all three axes. Here with padding that keeps the size, and channels that
double behind the first convolution of a stage, not within it.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from striate.errors import InputMisfit
from striate.models.initialization.initialize import initialize_output
from striate.models.zoo.image_size import no_image
from striate.wording import show_shape


class SmallUNet3d(nn.Module):
    """(N, C, D, H, W) to (N, outputs, D, H, W); each side divisible by 2 to the power of the `stages`."""

    def __init__(self, in_channels: int, outputs: int, width: int, stages: int) -> None:
        super().__init__()
        widths = [width << stage for stage in range(stages + 1)]
        self.encoders = nn.ModuleList(
            _double(below, here) for below, here in zip([in_channels, *widths], widths, strict=False)
        )
        self.ups = nn.ModuleList(nn.ConvTranspose3d(2 * here, here, 2, stride=2) for here in widths[-2::-1])
        self.decoders = nn.ModuleList(_double(2 * here, here) for here in widths[-2::-1])
        self.head = nn.Conv3d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = [self.encoders[0](x)]
        for encoder in list(self.encoders)[1:]:
            maps.append(encoder(functional.max_pool3d(maps[-1], 2)))
        out = maps.pop()
        for up, decoder in zip(self.ups, self.decoders, strict=True):
            out = decoder(torch.cat([maps.pop(), up(out)], dim=1))
        found: torch.Tensor = self.head(out)
        return found


def small_unet3d(input_shape: tuple[int, ...], outputs: int, width: int = 16, stages: int = 3) -> nn.Module:
    """The network for volumes (C, D, H, W), each side divisible by 2 to the power of `stages`, how often they are
    halved: to (N, outputs, D, H, W) logits.

    Raises ModelError for other shapes.
    """
    multiple = 1 << stages
    if len(input_shape) != 4:
        raise no_image("small-unet3d", input_shape, "volumes (channels, depth, height, width)", "small-dilated")
    if any(side % multiple for side in input_shape[1:]):
        expected = f"volumes with sides divisible by {multiple}: they are halved {stages} times"
        sides = [-(-side // multiple) * multiple for side in input_shape[1:]]
        got, other = f"inputs of {show_shape(input_shape)}", "small-dilated"
        remedy = f"use --data.voxels {'x'.join(map(str, sides))}, or --model {other}, which takes any size"
        raise InputMisfit("small-unet3d", got, expected, remedy, fitting=(input_shape[0], *sides), instead=other)
    network = SmallUNet3d(input_shape[0], outputs, width, stages)
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    initialize_output(network.head)
    return network


def _double(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv3d(in_channels, channels, 3, padding=1, bias=False),
            bn1=nn.BatchNorm3d(channels),
            relu1=nn.ReLU(),
            conv2=nn.Conv3d(channels, channels, 3, padding=1, bias=False),
            bn2=nn.BatchNorm3d(channels),
            relu2=nn.ReLU(),
        )
    )
