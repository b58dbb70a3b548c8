"""A network made for short trainings. Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", 2024
(arXiv 2404.00498).

New: nothing in it that has to be learned late. The first layer whitens patches and is computed from the data before the
first step; all other convolutions begin by passing their input on; normalizations shift but do not scale. Three blocks
of two convolutions, each block halving the size behind its first; the largest value of each channel answers.
1,971,352 trainable parameters on 3×32×32 with 10 classes, as published.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from striate.layers.convolution import WhiteningConv2d
from striate.models.initialization.initialize import initialize_output, pass_on
from striate.models.zoo.image_size import Slide, check_image

SMALL = 64
"""Pixels of the longer side: beyond, patches of 4×4 are whitened, each pixel once, instead of all of 2×2."""
BLOCKS = 3
FORGETTING = 0.4
"""Share of the last batch in the running statistics: the usual 0.1 suits trainings of more than a few hundred steps."""

FLOOR = 0.01
"""Added to variances: behind identities and poolings, a channel of digits may be the same nearly everywhere."""


def airbench(input_shape: tuple[int, ...], outputs: int, width: int = 64) -> nn.Module:
    """The network for images (C, H, W) of at least 9×9: to (N, outputs).

    Up to 64 pixels (longer side): patches of 2×2; beyond: of 4×4 with a stride of 4, so that 160 pixels cost as much
    as 40. Blocks of `width`, 4·`width` and 4·`width` channels. Smaller maps than those of `input_shape` work too.
    Raises ModelError for tables, signals, volumes and smaller images.
    """
    large = len(input_shape) == 3 and max(input_shape[1:]) > SMALL
    patch, stride = (4, 4) if large else (2, 1)
    check_image("airbench", input_shape, (Slide(patch, stride), *(Slide(2, 2) for _ in range(BLOCKS))))
    first = WhiteningConv2d(input_shape[0], patch, stride)
    children: OrderedDict[str, nn.Module] = OrderedDict(whiten=first, act=nn.GELU())
    channels = first.out_channels
    for number, wide in enumerate((width, 4 * width, 4 * width), start=1):
        children[f"layer{number}"] = _block(channels, wide)
        channels = wide
    children["maxpool"] = nn.AdaptiveMaxPool2d(1)
    children["flatten"] = nn.Flatten()
    children["fc"] = output = nn.Linear(channels, outputs, bias=False)
    initialize_output(output)
    return nn.Sequential(children)


def _block(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=_convolution(in_channels, channels),
            pool=nn.MaxPool2d(2),
            bn1=_normalization(channels),
            act1=nn.GELU(),
            conv2=_convolution(channels, channels),
            bn2=_normalization(channels),
            act2=nn.GELU(),
        )
    )


def _convolution(in_channels: int, channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
    if not layer.weight.is_meta:
        with torch.no_grad():
            pass_on(layer.weight)
    return layer


def _normalization(channels: int) -> nn.BatchNorm2d:
    """One that shifts and does not scale: behind it a convolution whose scale is learned anyway."""
    layer = nn.BatchNorm2d(channels, FLOOR, FORGETTING)
    layer.weight.requires_grad_(False)
    return layer
