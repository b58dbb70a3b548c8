"""A small residual network. He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016.

New: blocks that learn what to add to their input, so that depth no longer hurts. Modern details: the last
normalization of every block starts at zero, so that a fresh network is shallow (Goyal et al., "Accurate, large
minibatch SGD", 2017). 696,618 parameters at width 32 on 3×32×32 with 10 classes (three stages of two blocks).
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

from striate.errors import InputMisfit
from striate.models.zoo.image_size import no_image
from striate.models.zoo.resnet import begin_with_zero, residual_network, stem_layers
from striate.wording import show_shape

SMALLEST, SMALL = 8, 64


class SmallResidualBlock(nn.Module):
    """Two 3×3 convolutions with batch normalization, added to the input (projected where shapes differ)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = begin_with_zero(nn.BatchNorm2d(channels))
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or in_channels != channels:
            projection = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(OrderedDict(conv=projection, bn=nn.BatchNorm2d(channels)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return functional.relu(out + (x if self.shortcut is None else self.shortcut(x)))


def small_resnet(input_shape: tuple[int, ...], outputs: int, width: int = 32, blocks: int = 2) -> nn.Module:
    """The network for images (C, H, W) of any number of channels, at least 8×8: to (N, outputs).

    Up to 64 pixels (longer side): three stages with `width`, 2·`width` and 4·`width` channels. Beyond: a stem that
    divides the size by 4, and four stages. `blocks` basic blocks a stage.
    Raises ModelError for tables, signals, volumes and smaller images.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < SMALLEST:
        expected = f"images (channels, height, width) of at least {SMALLEST}×{SMALLEST}"
        if len(input_shape) != 3:
            raise no_image("small-resnet", input_shape, expected)
        fitting = (input_shape[0], *(max(size, SMALLEST) for size in input_shape[1:]))
        got, remedy = f"inputs of {show_shape(input_shape)}", "use --model small-cnn"
        raise InputMisfit("small-resnet", got, expected, remedy, fitting=fitting, instead="small-cnn")
    large = max(input_shape[1:]) > SMALL
    stem = stem_layers(input_shape[0], width, "published" if large else "small")
    return residual_network(stem, width, (blocks,) * (4 if large else 3), width, SmallResidualBlock, outputs)
