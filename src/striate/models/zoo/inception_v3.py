"""Inception-v3. Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception architecture", CVPR 2016.

New: large windows as a row of small ones (5×5 as two 3×3, 7×7 as 1×7 and 7×1), grids made smaller by convolution and
pooling side by side, batch normalization everywhere, and label smoothing. On 299×299: 27,161,264 parameters with the
auxiliary classifier, 23,834,568 without; 5,713,216,096 multiply–accumulates. 21.2 % top-1 and 5.6 % top-5 error of one
network and one crop; 3.58 % top-5 of four networks.

The form is torchvision's, so that its files fit, and that of the authors' published code: the first three modules keep
a 5×5 window that the paper's figure 5 has as two of 3×3. A file of the published weights wants `transform_input=true`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.models.zoo.googlenet import REMARK, BasicConv2d, check_colors, initialize_truncated, restandardized
from striate.models.zoo.image_size import Slide, check_image, describe_chain, smallest_size

FEATURES = 2048
WINDOWS = (Slide(3, 2), Slide(3), Slide(3, 2), Slide(3), Slide(3, 2), Slide(3, 2), Slide(3, 2))
"""What makes the map smaller: two convolutions, pooling, one more, pooling, and Mixed_6a and Mixed_7a."""
AUXILIARY_WINDOWS = (*WINDOWS[:-1], Slide(5, 3), Slide(5))
"""The way to the auxiliary classifier: behind Mixed_6a its own pooling and convolution."""
SMALLEST_AUXILIARY = smallest_size(AUXILIARY_WINDOWS)
WIDE, TALL = ((1, 7), (0, 3)), ((7, 1), (3, 0))
"""Kernel and padding of the two parts of a 7×7 window."""


class InceptionOutputs(NamedTuple):
    """What the network with the auxiliary classifier gives in training mode: each (N, K)."""

    logits: torch.Tensor
    aux_logits: torch.Tensor


def _averaged(x: torch.Tensor) -> torch.Tensor:
    return functional.avg_pool2d(x, 3, 1, 1)


def _shrunk(x: torch.Tensor) -> torch.Tensor:
    return functional.max_pool2d(x, 3, 2)


class InceptionA(nn.Module):
    """1×1; 5×5; two 3×3; pooling. (N, C, H, W) to (N, 224 + pooled, H, W)."""

    def __init__(self, in_channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 64, 1)
        self.branch5x5_1 = BasicConv2d(in_channels, 48, 1)
        self.branch5x5_2 = BasicConv2d(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, padding=1)
        self.branch_pool = BasicConv2d(in_channels, pooled, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_averaged(x))], 1)


class InceptionB(nn.Module):
    """From the first grid to the second: (N, 288, H, W) to (N, 768, ⌊(H − 1)/2⌋, ⌊(W − 1)/2⌋)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3 = BasicConv2d(in_channels, 384, 3, 2)
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 64, 1)
        self.branch3x3dbl_2 = BasicConv2d(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = BasicConv2d(96, 96, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, _shrunk(x)], 1)


class InceptionC(nn.Module):
    """1×1; 7×7 in two parts; the same twice; pooling. (N, C, H, W) to (N, 768, H, W); `inner` channels inside."""

    def __init__(self, in_channels: int, inner: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7_1 = BasicConv2d(in_channels, inner, 1)
        self.branch7x7_2 = BasicConv2d(inner, inner, WIDE[0], padding=WIDE[1])
        self.branch7x7_3 = BasicConv2d(inner, 192, TALL[0], padding=TALL[1])
        self.branch7x7dbl_1 = BasicConv2d(in_channels, inner, 1)
        self.branch7x7dbl_2 = BasicConv2d(inner, inner, TALL[0], padding=TALL[1])
        self.branch7x7dbl_3 = BasicConv2d(inner, inner, WIDE[0], padding=WIDE[1])
        self.branch7x7dbl_4 = BasicConv2d(inner, inner, TALL[0], padding=TALL[1])
        self.branch7x7dbl_5 = BasicConv2d(inner, 192, WIDE[0], padding=WIDE[1])
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), seven, double, self.branch_pool(_averaged(x))], 1)


class InceptionD(nn.Module):
    """From the second grid to the third: (N, 768, H, W) to (N, 1280, ⌊(H − 1)/2⌋, ⌊(W − 1)/2⌋)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch3x3_2 = BasicConv2d(192, 320, 3, 2)
        self.branch7x7x3_1 = BasicConv2d(in_channels, 192, 1)
        self.branch7x7x3_2 = BasicConv2d(192, 192, WIDE[0], padding=WIDE[1])
        self.branch7x7x3_3 = BasicConv2d(192, 192, TALL[0], padding=TALL[1])
        self.branch7x7x3_4 = BasicConv2d(192, 192, 3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([three, seven, _shrunk(x)], 1)


class InceptionE(nn.Module):
    """1×1; 1×3 beside 3×1; the same behind a 3×3; pooling. (N, C, H, W) to (N, 2048, H, W)."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(in_channels, 320, 1)
        self.branch3x3_1 = BasicConv2d(in_channels, 384, 1)
        self.branch3x3_2a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = BasicConv2d(in_channels, 448, 1)
        self.branch3x3dbl_2 = BasicConv2d(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = BasicConv2d(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = BasicConv2d(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = BasicConv2d(in_channels, 192, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        three = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        maps = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        maps += [self.branch3x3dbl_3a(double), self.branch3x3dbl_3b(double), self.branch_pool(_averaged(x))]
        return torch.cat(maps, 1)


class InceptionAux(nn.Module):
    """The auxiliary classifier: (N, 768, H, W), at least 17×17, to (N, K)."""

    def __init__(self, in_channels: int, outputs: int) -> None:
        super().__init__()
        self.conv0 = BasicConv2d(in_channels, 128, 1)
        self.conv1 = BasicConv2d(128, 768, 5)
        self.fc = nn.Linear(768, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv1(self.conv0(functional.avg_pool2d(x, 5, 3)))
        logits: torch.Tensor = self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class InceptionV3(nn.Module):
    """(N, C, H, W) to logits (N, K); with the auxiliary classifier, in training mode, to InceptionOutputs."""

    # The weight of the auxiliary loss, as in torchvision's recipe and tutorial; the paper gives none.
    auxiliary_weights = (0.4,)
    # Where the auxiliary classifier lies: the layer that gives its logits.
    auxiliary_layers = ("AuxLogits.fc",)

    def __init__(self, in_channels: int, outputs: int, *, aux: bool, transform_input: bool) -> None:
        super().__init__()
        self.transform_input = transform_input
        self.remark_on_files = REMARK if in_channels == 3 and not transform_input else ""
        self.Conv2d_1a_3x3 = BasicConv2d(in_channels, 32, 3, 2)
        self.Conv2d_2a_3x3 = BasicConv2d(32, 32, 3)
        self.Conv2d_2b_3x3 = BasicConv2d(32, 64, 3, padding=1)
        self.maxpool1 = nn.MaxPool2d(3, 2)
        self.Conv2d_3b_1x1 = BasicConv2d(64, 80, 1)
        self.Conv2d_4a_3x3 = BasicConv2d(80, 192, 3)
        self.maxpool2 = nn.MaxPool2d(3, 2)
        self.Mixed_5b = InceptionA(192, 32)
        self.Mixed_5c = InceptionA(256, 64)
        self.Mixed_5d = InceptionA(288, 64)
        self.Mixed_6a = InceptionB(288)
        self.Mixed_6b = InceptionC(768, 128)
        self.Mixed_6c = InceptionC(768, 160)
        self.Mixed_6d = InceptionC(768, 160)
        self.Mixed_6e = InceptionC(768, 192)
        self.AuxLogits = InceptionAux(768, outputs) if aux else None
        self.Mixed_7a = InceptionD(768)
        self.Mixed_7b = InceptionE(1280)
        self.Mixed_7c = InceptionE(2048)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(FEATURES, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor | InceptionOutputs:
        if self.AuxLogits is not None and self.training:
            _check_auxiliary(x.shape[2], x.shape[3])
        if self.transform_input:
            x = restandardized(x)
        x = self.maxpool1(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = self.maxpool2(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        middle = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        auxiliary = self.AuxLogits(middle) if self.AuxLogits is not None and self.training else None
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(middle)))
        logits: torch.Tensor = self.fc(self.dropout(self.avgpool(x)).flatten(1))
        return logits if auxiliary is None else InceptionOutputs(logits, auxiliary)


def inception_v3(
    input_shape: tuple[int, ...], outputs: int, aux: bool = True, transform_input: bool = False
) -> nn.Module:
    """The network for images (C, H, W) of at least 75×75: to (N, outputs).

    `aux`: one more classifier on an inner layer, in training mode only, where images then have to be at least 299×299:
    training on smaller ones raises ModelError, and `aux=false` is for them. `transform_input`: for the published
    weights and inputs standardized with ImageNet's mean and deviation. Raises ModelError for other inputs.
    """
    instead = "googlenet" if len(input_shape) == 3 and min(input_shape[1:]) >= 15 else ""
    check_image("inception_v3", input_shape, WINDOWS, instead)
    check_colors("inception_v3", input_shape, transform_input)
    network = InceptionV3(input_shape[0], outputs, aux=aux, transform_input=transform_input)
    heads = [network.AuxLogits.fc] if network.AuxLogits is not None else []
    initialize_truncated(network, 0.1, [network.fc, *heads])
    if network.AuxLogits is not None:
        nn.init.normal_(network.AuxLogits.conv1.conv.weight, 0.0, 0.01)
    return network


def _check_auxiliary(height: int, width: int) -> None:
    """ModelError where the auxiliary classifier's last window does not fit its map."""
    smallest = SMALLEST_AUXILIARY
    if min(height, width) >= smallest:
        return
    raise ModelError(
        "the auxiliary classifier of inception_v3 in training",
        describe_chain(height, width, AUXILIARY_WINDOWS),
        f"images of at least {smallest}×{smallest}",
        f'--model "inception_v3(aux=false)", without the classifier, --model googlenet, or --size {smallest}',
    )
