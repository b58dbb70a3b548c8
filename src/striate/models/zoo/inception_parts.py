"""What GoogLeNet and Inception-v3 are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from striate.errors import ModelError
from striate.models.initialization.initialize import initialize_output
from striate.wording import show_shape

# Of photographs from 0 to 1, red, green, blue: what files of torchvision's other networks are standardized with.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REMARK = "if torchvision published them, they want transform_input=true, which no file says of itself"


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
    """First weights: normal with this deviation; the layers that give logits begin near zero (`initialize_output`).

    The normal of the papers is cut off at ±2, a hundred deviations away, which no draw reaches.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module not in outputs:
            nn.init.normal_(module.weight, 0.0, deviation)
    for layer in outputs:
        initialize_output(layer)
