"""Residual networks. He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016; and their wide
forms: Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016.

New: blocks learn what to add to their input, so that a deeper network is not harder to train than a shallow one. Six
such networks won ILSVRC 2015 with 3.57 % top-5 error. From 50 layers on, a block is a bottleneck: 1×1 to a quarter of
the channels, 3×3 there, 1×1 back. Wide: twice the channels in that 3×3 convolution.

Parameters for 3×224×224 and 1000 classes: resnet18 11,689,512, resnet34 21,797,672, resnet50 25,557,032, resnet101
44,549,160, resnet152 60,192,808, wide_resnet50_2 68,883,240, wide_resnet101_2 126,886,696.

Two things are as in torchvision, not as in the paper: the stride of a bottleneck stands in its 3×3 convolution (the
paper's first 1×1 convolution never sees three of four positions), and resnet34 projects its shortcuts (form B).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn

from striate.layers.pooling import GlobalAveragePool
from striate.models.initialization.initialize import initialize_output
from striate.models.model_info import Form
from striate.models.zoo.image_size import check_image

STAGES_18, STAGES_34, STAGES_101, STAGES_152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
STAGES_50 = STAGES_34
EXPANSION = 4
"""A bottleneck puts out four times the channels that its middle has, where it is not widened."""

MakeBlock = Callable[[int, int, int], nn.Module]
"""(in_channels, out_channels, stride) to a residual block."""


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, added to the input: (N, in_channels, H, W) to (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉).

    `downsample` makes the input as large as what is added to it; None where it is so already.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, downsample: nn.Module | None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = begin_with_zero(nn.BatchNorm2d(out_channels))
        self.downsample = downsample
        self.relu2 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.relu1(self.bn1(self.conv1(x)))
        added = self.bn2(self.conv2(added))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = self.relu2(shortcut + added)
        return out


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution, added to the input.

    (N, in_channels, H, W) to (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉). The 3×3 convolution has
    `widening` · out_channels / 4 channels in `groups` groups.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, widening: int = 1, groups: int = 1) -> None:
        super().__init__()
        middle = out_channels // EXPANSION * widening
        self.conv1 = nn.Conv2d(in_channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(middle, out_channels, 1, bias=False)
        self.bn3 = begin_with_zero(nn.BatchNorm2d(out_channels))
        self.downsample = projection(in_channels, out_channels, stride)
        self.relu3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.relu1(self.bn1(self.conv1(x)))
        added = self.relu2(self.bn2(self.conv2(added)))
        added = self.bn3(self.conv3(added))
        shortcut = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = self.relu3(shortcut + added)
        return out


def resnet18(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """18 layers, in basic blocks. For this and all networks below: images (C, H, W) of any size to (N, outputs).

    `width`: channels of the first stage, doubled in each of the three others (bottlenecks put out four times that).
    `stem`: `published` divides the size by 4 before the first stage, and so by 32 in all; `small`, for images of about
    32 pixels, has a 3×3 convolution with stride 1 and no pooling, so that the size is divided by 8, as for CIFAR-10 in
    section 4.2 of the paper. Raises ModelError for tables, signals and volumes.
    """
    return _resnet("resnet18", input_shape, outputs, STAGES_18, width, stem, projected_block, expansion=1)


def resnet34(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """34 layers, in basic blocks; otherwise as `resnet18`."""
    return _resnet("resnet34", input_shape, outputs, STAGES_34, width, stem, projected_block, expansion=1)


def resnet50(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """50 layers, in bottlenecks; otherwise as `resnet18`."""
    return _resnet("resnet50", input_shape, outputs, STAGES_50, width, stem, Bottleneck)


def resnet101(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """101 layers, in bottlenecks; otherwise as `resnet18`."""
    return _resnet("resnet101", input_shape, outputs, STAGES_101, width, stem, Bottleneck)


def resnet152(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """152 layers, in bottlenecks; otherwise as `resnet18`."""
    return _resnet("resnet152", input_shape, outputs, STAGES_152, width, stem, Bottleneck)


def wide_resnet50_2(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """`resnet50` with twice the channels in the 3×3 convolutions."""
    wide = partial(Bottleneck, widening=2)
    return _resnet("wide_resnet50_2", input_shape, outputs, STAGES_50, width, stem, wide)


def wide_resnet101_2(
    input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published"
) -> nn.Module:
    """`resnet101` with twice the channels in the 3×3 convolutions."""
    wide = partial(Bottleneck, widening=2)
    return _resnet("wide_resnet101_2", input_shape, outputs, STAGES_101, width, stem, wide)


def stem_layers(in_channels: int, width: int, stem: Form) -> OrderedDict[str, nn.Module]:
    """What comes before the first stage: (N, in_channels, H, W) to (N, width, ⌈H/4⌉, ⌈W/4⌉), or H × W if `small`."""
    small = stem == "small"
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(
        in_channels, width, 3 if small else 7, 1 if small else 2, padding=1 if small else 3, bias=False
    )
    layers["bn1"] = nn.BatchNorm2d(width)
    layers["relu"] = nn.ReLU()
    if not small:
        layers["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
    return layers


def residual_network(
    stem: OrderedDict[str, nn.Module],
    stem_channels: int,
    stages: Sequence[int],
    channels: int,
    block: MakeBlock,
    outputs: int,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Stem, stages, mean over all positions, dropout if it is not 0, and one linear layer; with first weights.

    `stages`: the number of blocks of each; the first puts out `channels`, each later one twice as many at half the
    size.
    """
    children, in_channels = OrderedDict(stem), stem_channels
    for number, depth in enumerate(stages):
        out_channels = channels << number
        first = block(in_channels, out_channels, 2 if number else 1)
        others = [block(out_channels, out_channels, 1) for _ in range(depth - 1)]
        children[f"layer{number + 1}"] = nn.Sequential(first, *others)
        in_channels = out_channels
    children["avgpool"] = GlobalAveragePool()
    if dropout:
        children["dropout"] = nn.Dropout(dropout)
    children["fc"] = nn.Linear(in_channels, outputs)
    network = nn.Sequential(children)
    _initialize(network)
    return network


def begin_with_zero(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """The last normalization of a block, scaled by 0 at first: the block begins as its shortcut.

    So a deep network starts like a shallow one (Goyal et al., "Accurate, large minibatch SGD", 2017), and a fresh
    resnet50 computes nearly the same in bfloat16: outputs on noise of 96×96 are 1 % off, and 31 % with scales of 1.
    """
    nn.init.zeros_(norm.weight)
    return norm


def projected_block(in_channels: int, out_channels: int, stride: int) -> BasicBlock:
    """A basic block that projects its shortcut where shapes differ (form B of the paper)."""
    return BasicBlock(in_channels, out_channels, stride, projection(in_channels, out_channels, stride))


def projection(in_channels: int, out_channels: int, stride: int, kernel: int = 1) -> nn.Sequential | None:
    """The shortcut of a block that changes the shape; None for one that does not."""
    if stride == 1 and in_channels == out_channels:
        return None
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))


def _resnet(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    stages: Sequence[int],
    width: int,
    stem: Form,
    block: MakeBlock,
    expansion: int = EXPANSION,
) -> nn.Module:
    check_image(name, input_shape)
    return residual_network(stem_layers(input_shape[0], width, stem), width, stages, expansion * width, block, outputs)


def _initialize(network: nn.Sequential) -> None:
    # He et al., "Delving deep into rectifiers", ICCV 2015, by fan-out: gradients keep their size on the way back.
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            initialize_output(module)
