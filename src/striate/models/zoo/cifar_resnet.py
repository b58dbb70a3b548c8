"""Residual networks for CIFAR-10. He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016,
section 4.2.

New: 6n + 2 layers, n blocks in each of three stages with 16, 32 and 64 channels; where stages meet, the shortcut keeps
every second position and gets channels of zeros (option A), so that it has no parameters and the network as many as
the plain one of the same depth. Thus the comparison is fair: without shortcuts, 56 layers are worse than 20.

Parameters for 3×32×32 and 10 classes: resnet20 269,722, resnet32 464,154, resnet44 658,586, resnet56 853,018, resnet110
1,727,962. Errors on CIFAR-10 in the paper: 8.75, 7.51, 7.17, 6.97 and 6.43 % (the best of five; mean 6.61).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from striate.models.zoo.image_size import check_image
from striate.models.zoo.resnet import BasicBlock, residual_network, stem_layers

STAGES = 3


class ZeroPaddedShortcut(nn.Module):
    """Every `stride`-th position, and channels of zeros behind the others.

    (N, C, H, W) to (N, C + extra_channels, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, extra_channels: int, stride: int) -> None:
        super().__init__()
        self.extra_channels, self.stride = extra_channels, stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = x[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, 0, self.extra_channels))

    def extra_repr(self) -> str:
        return f"{self.extra_channels}, stride={self.stride}"


def resnet20(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """20 layers. For this and all networks below: images (C, H, W) of any size to (N, outputs).

    `width`: channels of the first stage, doubled in each of the two others, which halve the size.
    Raises ModelError for tables, signals and volumes.
    """
    return _cifar_resnet("resnet20", input_shape, outputs, 20, width)


def resnet32(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """32 layers; otherwise as `resnet20`."""
    return _cifar_resnet("resnet32", input_shape, outputs, 32, width)


def resnet44(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """44 layers; otherwise as `resnet20`."""
    return _cifar_resnet("resnet44", input_shape, outputs, 44, width)


def resnet56(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """56 layers; otherwise as `resnet20`."""
    return _cifar_resnet("resnet56", input_shape, outputs, 56, width)


def resnet110(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """110 layers; otherwise as `resnet20`."""
    return _cifar_resnet("resnet110", input_shape, outputs, 110, width)


def _cifar_resnet(name: str, input_shape: tuple[int, ...], outputs: int, layers: int, width: int) -> nn.Module:
    check_image(name, input_shape)
    # All but the first convolution and the output layer are in blocks, two in each.
    blocks = (layers - 2) // 2 // STAGES
    stem = stem_layers(input_shape[0], width, "small")
    return residual_network(stem, width, (blocks,) * STAGES, width, _block, outputs)


def _block(in_channels: int, out_channels: int, stride: int) -> BasicBlock:
    same = stride == 1 and in_channels == out_channels
    shortcut = None if same else ZeroPaddedShortcut(out_channels - in_channels, stride)
    return BasicBlock(in_channels, out_channels, stride, shortcut)
