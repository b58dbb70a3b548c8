"""DenseNet-BC. Huang, Liu, van der Maaten and Weinberger, "Densely connected convolutional networks", CVPR 2017.

New: a layer gets the maps of all layers before it in its block, side by side, and adds only a few of its own (the
growth rate), so that nothing has to be learned twice. A 1×1 convolution in each layer (B) and half the channels between
blocks (C) keep it cheap. On 224×224: densenet121 7,978,856 parameters and 2,834,161,664 multiply–accumulates,
densenet169 14,149,480, densenet201 20,013,928, and densenet161, twice as wide at the first convolution, 28,681,000.
Names are torchvision's; the published files still have those of before 2018, which are understood too.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from striate.models.initialization.initialize import initialize_output
from striate.models.registry import Form
from striate.models.zoo.image_size import Slide, check_image, smallest_size

BOTTLENECK = 4
"""Channels of a layer's 1×1 convolution, times the growth rate (paper, section 3)."""
SMALL_WINDOWS = (Slide(3, 1, 1), *[Slide(2, 2)] * 3)
WINDOWS = (Slide(7, 2, 3), Slide(3, 2, 1), *[Slide(2, 2)] * 3)
"""What makes the map smaller: the stem, and the pooling between blocks."""
_OLDER = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


class DenseLayer(nn.Module):
    """(N, C, H, W) to (N, growth, H, W): normalization, ReLU, 1×1 convolution; the same with a 3×3 convolution."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, BOTTLENECK * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK * growth)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(BOTTLENECK * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.relu1(self.norm1(x)))
        added: torch.Tensor = self.conv2(self.relu2(self.norm2(x)))
        return added


class DenseBlock(nn.ModuleDict):
    """Dense layers: (N, C, H, W) to (N, C + layers · growth, H, W), the input first."""

    def __init__(self, in_channels: int, layers: int, growth: int) -> None:
        super().__init__({f"denselayer{k + 1}": DenseLayer(in_channels + k * growth, growth) for k in range(layers)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseNet(nn.Module):
    """(N, C, H, W) to logits (N, K)."""

    def __init__(self, features: nn.Sequential, channels: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(channels, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.avgpool(self.relu(self.features(x)))
        logits: torch.Tensor = self.classifier(maps.flatten(1))
        return logits

    @staticmethod
    def older_name(name: str) -> str:
        """The name that a tensor of a file has here: until 2018 `denselayer1.norm1` was `denselayer1.norm.1`."""
        return _OLDER.sub(r"\1\2", name)


def _dense_net(
    name: str,
    blocks: tuple[int, ...],
    input_shape: tuple[int, ...],
    outputs: int,
    growth: int,
    width: int,
    stem: Form = "published",
) -> nn.Module:
    """The network for images (C, H, W) of at least 29×29 (8×8 with the small stem): to (N, outputs).

    `blocks`: how many dense layers each block has; `growth`: how many channels each layer adds. `width`: how many the
    first convolution gives. `stem=small`, for small images: the first convolution is 3×3 with stride 1, without the
    pooling after it, as in the paper's networks for CIFAR, so that 32×32 ends in 4×4 instead of 1×1. Raises ModelError
    for other inputs.
    """
    small = stem == "small"
    room = len(input_shape) == 3 and min(input_shape[1:]) >= smallest_size(SMALL_WINDOWS)
    called = f"{name}(stem=small)"
    windows = SMALL_WINDOWS if small else WINDOWS
    check_image(called if small else name, input_shape, windows, called if room else "")
    children = _stem(input_shape[0], width, small)
    channels = width
    for number, layers in enumerate(blocks, start=1):
        children[f"denseblock{number}"] = DenseBlock(channels, layers, growth)
        channels += layers * growth
        if number < len(blocks):
            children[f"transition{number}"] = _transition(channels)
            channels //= 2
    children[f"norm{len(blocks) + 1}"] = nn.BatchNorm2d(channels)
    network = DenseNet(nn.Sequential(children), channels, outputs)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    initialize_output(network.classifier)
    return network


def _stem(in_channels: int, width: int, small: bool) -> OrderedDict[str, nn.Module]:
    """What is before the first block: the published one divides the size by 4, the small one keeps it."""
    children: OrderedDict[str, nn.Module] = OrderedDict()
    kernel, stride, padding = (3, 1, 1) if small else (7, 2, 3)
    children["conv0"] = nn.Conv2d(in_channels, width, kernel, stride, padding, bias=False)
    children["norm0"] = nn.BatchNorm2d(width)
    children["relu0"] = nn.ReLU()
    if not small:
        children["pool0"] = nn.MaxPool2d(3, 2, padding=1)
    return children


def _transition(channels: int) -> nn.Sequential:
    """Half the channels, half the size."""
    children: OrderedDict[str, nn.Module] = OrderedDict(norm=nn.BatchNorm2d(channels), relu=nn.ReLU())
    children["conv"] = nn.Conv2d(channels, channels // 2, 1, bias=False)
    children["pool"] = nn.AvgPool2d(2, 2)
    return nn.Sequential(children)


densenet121 = partial(_dense_net, "densenet121", (6, 12, 24, 16))
densenet161 = partial(_dense_net, "densenet161", (6, 12, 36, 24))
densenet169 = partial(_dense_net, "densenet169", (6, 12, 32, 32))
densenet201 = partial(_dense_net, "densenet201", (6, 12, 48, 32))
