"""GoogLeNet. Szegedy et al., "Going deeper with convolutions", CVPR 2015; first in ILSVRC 2014.

New: inception modules, which look at each position through windows of several sizes at once and pay for it with 1×1
convolutions that first make the maps thinner; and classifiers on inner layers, so that gradients reach the first ones.
22 layers, a twelfth of AlexNet's parameters: 6,624,904, with the two auxiliary classifiers 13,004,888; 1,498,376,192
multiply–accumulates at 224×224. 6.67 % top-5 error with seven networks and 144 crops.

The form is torchvision's, so that its files fit. It differs from the paper's: batch normalization (Ioffe and Szegedy
2015) for local response normalization, dropout of 20 % for 40 %, and 3×3 windows where the paper has 5×5, a slip that
the published weights have been learned with. A file of the published weights wants `transform_input=true`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.models.initialization.initialize import initialize_output
from striate.models.registry import Form
from striate.models.zoo.image_size import Slide, check_image, smallest_size
from striate.wording import show_shape

# Of photographs from 0 to 1, red, green, blue: what files of torchvision's other networks are standardized with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REMARK = "weights published by torchvision need transform_input=true, which their file does not record"


class BasicConv2d(nn.Module):
    """Convolution without bias, batch normalization with ε = 0.001, ReLU."""

    def __init__(
        self,
        in_channels: int,
        channels: int,
        kernel: int | tuple[int, int],
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=0.001)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        activated: torch.Tensor = self.relu(self.bn(self.conv(x)))
        return activated


def restandardized(x: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W), standardized with ImageNet's mean and deviation, as if with mean 0.5 and deviation 0.5.

    The published weights, which were learned in TensorFlow, want the latter.
    """
    channels = [
        x[:, k : k + 1] * (deviation / 0.5) + (mean - 0.5) / 0.5
        for k, (mean, deviation) in enumerate(zip(MEAN, DEVIATION, strict=True))
    ]
    return torch.cat(channels, 1)


def check_colors(name: str, input_shape: tuple[int, ...], transform_input: bool) -> None:
    """Raise ModelError where inputs are to be transformed that have not three channels."""
    if transform_input and input_shape[0] != 3:
        got = f"transform_input=true on inputs of {show_shape(input_shape)}"
        raise ModelError(name, got, "3 channels: red, green and blue", f'write "{name}", without the argument')


def initialize_truncated(network: nn.Module, deviation: float, outputs: Sequence[nn.Linear]) -> None:
    """Initialization: normal with this standard deviation; the layers that give logits begin near zero
    (`initialize_output`).

    The normal of the papers is cut off at ±2, a hundred deviations away, which no draw reaches.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module not in outputs:
            nn.init.normal_(module.weight, 0.0, deviation)
    for layer in outputs:
        initialize_output(layer)


# Paper, table 1. In channels; 1×1; before the 3×3 and it; before the 5×5 and it; behind the pooling.
MODULES = {
    "inception3a": (192, 64, 96, 128, 16, 32, 32),
    "inception3b": (256, 128, 128, 192, 32, 96, 64),
    "inception4a": (480, 192, 96, 208, 16, 48, 64),
    "inception4b": (512, 160, 112, 224, 24, 64, 64),
    "inception4c": (512, 128, 128, 256, 24, 64, 64),
    "inception4d": (512, 112, 144, 288, 32, 64, 64),
    "inception4e": (528, 256, 160, 320, 32, 128, 128),
    "inception5a": (832, 256, 160, 320, 32, 128, 128),
    "inception5b": (832, 384, 192, 384, 48, 128, 128),
}
FEATURES = 1024
SMALL_WINDOWS = (Slide(3, 1, 1), *[Slide(3, 2, round_up=True)] * 2, Slide(2, 2, round_up=True))
WINDOWS = (Slide(7, 2, 3), *[Slide(3, 2, round_up=True)] * 3, Slide(2, 2, round_up=True))
"""What makes the map smaller: the first convolution and the poolings."""


class GoogLeNetOutputs(NamedTuple):
    """What the network with auxiliary classifiers gives in training mode: each (N, K)."""

    logits: torch.Tensor
    aux_logits2: torch.Tensor
    aux_logits1: torch.Tensor


class Inception(nn.Module):
    """Four branches side by side: 1×1; 3×3; 3×3 (5×5 in the paper); max pooling. (N, C, H, W) to (N, C', H, W)."""

    def __init__(
        self, in_channels: int, ones: int, before3: int, threes: int, before5: int, fives: int, pooled: int
    ) -> None:
        super().__init__()
        self.branch1 = BasicConv2d(in_channels, ones, 1)
        self.branch2 = nn.Sequential(BasicConv2d(in_channels, before3, 1), BasicConv2d(before3, threes, 3, padding=1))
        self.branch3 = nn.Sequential(BasicConv2d(in_channels, before5, 1), BasicConv2d(before5, fives, 3, padding=1))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), BasicConv2d(in_channels, pooled, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class InceptionAux(nn.Module):
    """An auxiliary classifier: (N, C, H, W) of any size to (N, K)."""

    def __init__(self, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.conv = BasicConv2d(in_channels, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(1024, outputs)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(functional.adaptive_avg_pool2d(x, (4, 4)))
        logits: torch.Tensor = self.fc2(self.dropout(self.relu(self.fc1(x.flatten(1)))))
        return logits


class GoogLeNet(nn.Module):
    """(N, C, H, W) to logits (N, K); with auxiliary classifiers, in training mode, to GoogLeNetOutputs."""

    # The weight of each auxiliary loss, in the order of the outputs (paper, section 5).
    auxiliary_weights = (0.3, 0.3)
    # Where auxiliary classifiers lie, by the layer that gives their logits.
    auxiliary_layers = ("aux2.fc2", "aux1.fc2")

    def __init__(
        self, in_channels: int, outputs: int, *, aux: bool, transform_input: bool, small_stem: bool = False
    ) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.remark_on_files = REMARK if in_channels == 3 and not transform_input else ""
        self.conv1 = BasicConv2d(in_channels, 64, 3, 1, padding=1) if small_stem else _wide_stem(in_channels)
        self.maxpool1 = nn.Identity() if small_stem else nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception3a = Inception(*MODULES["inception3a"])
        self.inception3b = Inception(*MODULES["inception3b"])
        self.maxpool3 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.inception4a = Inception(*MODULES["inception4a"])
        self.inception4b = Inception(*MODULES["inception4b"])
        self.inception4c = Inception(*MODULES["inception4c"])
        self.inception4d = Inception(*MODULES["inception4d"])
        self.inception4e = Inception(*MODULES["inception4e"])
        self.maxpool4 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.inception5a = Inception(*MODULES["inception5a"])
        self.inception5b = Inception(*MODULES["inception5b"])
        self.aux1 = InceptionAux(MODULES["inception4b"][0], outputs) if aux else None
        self.aux2 = InceptionAux(MODULES["inception4e"][0], outputs) if aux else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(FEATURES, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor | GoogLeNetOutputs:
        if self.transform_input:
            x = restandardized(x)
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        early = self.inception4a(x)
        late = self.inception4d(self.inception4c(self.inception4b(early)))
        x = self.maxpool4(self.inception4e(late))
        x = self.inception5b(self.inception5a(x))
        if not self.training or self.aux1 is None or self.aux2 is None:
            return self._logits(x)
        # In the order of the layers, so that dropout draws as it does in the published form.
        first = self.aux1(early)
        second = self.aux2(late)
        return GoogLeNetOutputs(self._logits(x), second, first)

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        return logits


def _wide_stem(in_channels: int) -> BasicConv2d:
    return BasicConv2d(in_channels, 64, 7, 2, padding=3)


def googlenet(
    input_shape: tuple[int, ...],
    outputs: int,
    aux: bool = False,
    transform_input: bool = False,
    stem: Form = "published",
) -> nn.Module:
    """The network for images (C, H, W) of at least 15×15 (4×4 with the small stem): to (N, outputs).

    `aux`: two more classifiers on inner layers, in training mode only. `transform_input`: for the published weights
    and inputs standardized with ImageNet's mean and deviation. `stem=small`, for small images: the first convolution
    is 3×3 with stride 1, without the pooling after it, so that 32×32 ends in 4×4 instead of 1×1.
    Raises ModelError for other inputs.
    """
    small = stem == "small"
    name = "googlenet(stem=small)" if small else "googlenet"
    room = len(input_shape) == 3 and min(input_shape[1:]) >= smallest_size(SMALL_WINDOWS)
    check_image(name, input_shape, SMALL_WINDOWS if small else WINDOWS, "googlenet(stem=small)" if room else "")
    check_colors("googlenet", input_shape, transform_input)
    network = GoogLeNet(input_shape[0], outputs, aux=aux, transform_input=transform_input, small_stem=small)
    heads = [head.fc2 for head in (network.aux1, network.aux2) if head is not None]
    initialize_truncated(network, 0.01, [network.fc, *heads])
    return network
