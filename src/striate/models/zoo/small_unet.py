"""A small U-Net. Ronneberger, Fischer and Brox, "U-Net: convolutional networks for biomedical image segmentation",
MICCAI 2015.

New: the decoder gets the encoder's maps of the same size, so that masks keep sharp borders. Here with two halvings
instead of four, batch normalization and padding that keeps the size: 117,378 parameters at width 16 with 3 channels
and 2 classes.
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

MULTIPLE = 4


class SmallUNet(nn.Module):
    """(N, C, H, W) to (N, outputs, H, W), H and W divisible by 4; ModelError otherwise."""

    def __init__(self, in_channels: int, outputs: int, width: int) -> None:
        super().__init__()
        self.encoder1 = _double(in_channels, width)
        self.encoder2 = _double(width, 2 * width)
        self.bottom = _double(2 * width, 4 * width)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.decoder2 = _double(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.decoder1 = _double(2 * width, width)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_size(tuple(x.shape[1:]))
        fine = self.encoder1(x)
        middle = self.encoder2(functional.max_pool2d(fine, 2))
        coarse = self.bottom(functional.max_pool2d(middle, 2))
        middle = self.decoder2(torch.cat([middle, self.up2(coarse)], dim=1))
        fine = self.decoder1(torch.cat([fine, self.up1(middle)], dim=1))
        out: torch.Tensor = self.head(fine)
        return out


def small_unet(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """The network for images (C, H, W), H and W divisible by 4: to (N, outputs, H, W) logits.

    Raises ModelError for other shapes.
    """
    check_size(input_shape)
    network = SmallUNet(input_shape[0], outputs, width)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    initialize_output(network.head)
    return network


def check_size(input_shape: tuple[int, ...]) -> None:
    """ModelError unless the input is (C, H, W) with H and W divisible by 4."""
    if len(input_shape) == 3 and all(size % MULTIPLE == 0 for size in input_shape[1:]):
        return
    expected = f"images (channels, height, width) with height and width divisible by {MULTIPLE}: they are halved twice"
    if len(input_shape) != 3:
        raise no_image("small-unet", input_shape, expected, "small-dilated")
    height, width = (-(-size // MULTIPLE) * MULTIPLE for size in input_shape[1:])
    got, other = f"inputs of {show_shape(input_shape)}", "small-dilated"
    remedy = f"use --size {height}x{width}, or --model {other}, which takes any size"
    raise InputMisfit("small-unet", got, expected, remedy, fitting=(input_shape[0], height, width), instead=other)


def _double(in_channels: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(channels),
            relu2=nn.ReLU(),
        )
    )
