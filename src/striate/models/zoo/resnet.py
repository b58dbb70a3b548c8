"""Residual networks. He, Zhang, Ren and Sun, "Deep residual learning for image recognition", CVPR 2016; their wide
forms: Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016; and ResNeXt: Xie, Girshick, Dollár, Tu and He,
"Aggregated residual transformations for deep neural networks", CVPR 2017.

New: blocks learn what to add to their input, so that a deeper network is not harder to train than a shallow one. Six
such networks won ILSVRC 2015 with 3.57 % top-5 error. From 50 layers on, a block is a bottleneck: 1×1 to a quarter of
the channels, 3×3 there, 1×1 back. Wide: twice the channels in that 3×3 convolution. ResNeXt: that convolution falls
into groups that do not see each other; for the same computation, more groups are more accurate ("cardinality"). 32x4d:
32 groups of 4 channels in the first stage, of twice as many in every later one. Second place of ILSVRC 2016, 3.03 %.

For CIFAR-10 (section 4.2 of the first paper): 6n + 2 layers, n blocks in each of three stages with 16, 32 and 64
channels. Where stages meet, the shortcut keeps every second position and gets channels of zeros (option A), so that the
network has as many parameters as the plain one of the same depth, and the comparison with it is fair: without
shortcuts, 56 layers are worse than 20.

Two things are as in torchvision, not as in the paper: the stride of a bottleneck stands in its 3×3 convolution (the
paper's first 1×1 convolution never sees three of four positions), and resnet34 projects its shortcuts (form B).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import nn
from torch.nn import functional

from striate.errors import ModelError
from striate.layers.pooling import GlobalAveragePool
from striate.models.initialization.initialize import initialize_output
from striate.models.registry import Form
from striate.models.zoo.image_size import check_image
from striate.wording import several

EXPANSION = 4
"""A bottleneck puts out four times the channels that its middle has, where it is not widened."""
STAGES_50, STAGES_101, STAGES_152 = (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
"""How many blocks each stage has."""
CIFAR_STAGES = 3
USUAL_WIDTH = 64

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

    (N, in_channels, H, W) to (N, out_channels, ⌈H/stride⌉, ⌈W/stride⌉). The 3×3 convolution has `widening` ·
    out_channels / 4 channels in `groups` groups, the 1×1 convolution before it 1/`narrowing` of these. `gate` scales
    the channels before they are added; `kernel` is that of a shortcut that halves the size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        widening: int = 1,
        groups: int = 1,
        narrowing: int = 1,
        kernel: int = 1,
        gate: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        middle = out_channels // EXPANSION * widening
        self.conv1 = nn.Conv2d(in_channels, middle // narrowing, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle // narrowing)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(middle // narrowing, middle, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(middle, out_channels, 1, bias=False)
        self.bn3 = begin_with_zero(nn.BatchNorm2d(out_channels))
        self.se = gate(out_channels) if gate else None
        self.downsample = projection(in_channels, out_channels, stride, kernel if stride > 1 else 1)
        self.relu3 = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        added = self.relu1(self.bn1(self.conv1(x)))
        added = self.relu2(self.bn2(self.conv2(added)))
        added = self.bn3(self.conv3(added))
        if self.se is not None:
            added = self.se(added)
        shortcut = x if self.downsample is None else self.downsample(x)
        out: torch.Tensor = self.relu3(shortcut + added)
        return out


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
    """Stem, stages, mean over all positions, dropout if it is not 0, and one linear layer; initialized.

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


def zero_padded_block(in_channels: int, out_channels: int, stride: int) -> BasicBlock:
    """A basic block whose shortcut has no parameters (option A of the paper)."""
    same = stride == 1 and in_channels == out_channels
    shortcut = None if same else ZeroPaddedShortcut(out_channels - in_channels, stride)
    return BasicBlock(in_channels, out_channels, stride, shortcut)


def _initialize(network: nn.Sequential) -> None:
    # He et al., "Delving deep into rectifiers", ICCV 2015, by fan-out: gradients keep their size on the way back.
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            initialize_output(module)


def _resnet(
    name: str,
    stages: Sequence[int],
    block: MakeBlock,
    expansion: int,
    input_shape: tuple[int, ...],
    outputs: int,
    width: int = 64,
    stem: Form = "published",
) -> nn.Module:
    """A network for images (C, H, W) of any size: to (N, outputs).

    `width`: channels of the first stage, doubled in each later one, and put out `expansion` times.
    `stem`: `published` divides the size by 4 before the first stage, and so by 32 in all; `small`, for images of about
    32 pixels, has a 3×3 convolution with stride 1 and no pooling, so that the size is divided by 8, as for CIFAR-10 in
    section 4.2 of the paper. Raises ModelError for tables, signals and volumes.
    """
    check_image(name, input_shape)
    return residual_network(stem_layers(input_shape[0], width, stem), width, stages, expansion * width, block, outputs)


resnet18 = partial(_resnet, "resnet18", (2, 2, 2, 2), projected_block, 1)
resnet34 = partial(_resnet, "resnet34", STAGES_50, projected_block, 1)
resnet50 = partial(_resnet, "resnet50", STAGES_50, Bottleneck, EXPANSION)
resnet101 = partial(_resnet, "resnet101", STAGES_101, Bottleneck, EXPANSION)
resnet152 = partial(_resnet, "resnet152", STAGES_152, Bottleneck, EXPANSION)
wide_resnet50_2 = partial(_resnet, "wide_resnet50_2", STAGES_50, partial(Bottleneck, widening=2), EXPANSION)
wide_resnet101_2 = partial(_resnet, "wide_resnet101_2", STAGES_101, partial(Bottleneck, widening=2), EXPANSION)


def _resnext(
    name: str,
    stages: Sequence[int],
    groups: int,
    group_width: int,
    input_shape: tuple[int, ...],
    outputs: int,
    width: int = USUAL_WIDTH,
    stem: Form = "published",
) -> nn.Module:
    """As `_resnet`, of bottlenecks with so many groups, each `group_width` wide in the first stage at the usual width.

    The number of groups stays with another width, so that each is narrower or wider; ModelError where they cannot be
    equal.
    """
    widening = groups * group_width // USUAL_WIDTH
    check_image(name, input_shape)
    check_groups(name, width, stem, widening, groups)
    block = partial(Bottleneck, widening=widening, groups=groups)
    return _resnet(name, stages, block, EXPANSION, input_shape, outputs, width, stem)


resnext50_32x4d = partial(_resnext, "resnext50_32x4d", STAGES_50, 32, 4)
resnext101_32x8d = partial(_resnext, "resnext101_32x8d", STAGES_101, 32, 8)
resnext101_64x4d = partial(_resnext, "resnext101_64x4d", STAGES_101, 64, 4)


def check_groups(name: str, width: int, stem: Form, widening: int, groups: int) -> None:
    """ModelError where `groups` groups do not divide the 3×3 convolution's channels, widening · width."""
    multiple = groups // widening
    if width % multiple:
        nearest = max(multiple, round(width / multiple) * multiple)
        arguments = f"width={nearest}" + (f", stem={stem}" if stem != "published" else "")
        got = (
            f"width={width}: {widening}·{width} = {several(widening * width, 'channel')} in {several(groups, 'group')}"
        )
        raise ModelError(name, got, f"a width divisible by {multiple}", f'write "{name}({arguments})"')


def _cifar_resnet(name: str, layers: int, input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """A network of three stages for images (C, H, W) of any size: to (N, outputs).

    `width`: channels of the first stage, doubled in each of the two others, which halve the size.
    Raises ModelError for tables, signals and volumes.
    """
    check_image(name, input_shape)
    # All but the first convolution and the output layer are in blocks, two in each.
    blocks = (layers - 2) // 2 // CIFAR_STAGES
    stem = stem_layers(input_shape[0], width, "small")
    return residual_network(stem, width, (blocks,) * CIFAR_STAGES, width, zero_padded_block, outputs)


resnet20 = partial(_cifar_resnet, "resnet20", 20)
resnet32 = partial(_cifar_resnet, "resnet32", 32)
resnet44 = partial(_cifar_resnet, "resnet44", 44)
resnet56 = partial(_cifar_resnet, "resnet56", 56)
resnet110 = partial(_cifar_resnet, "resnet110", 110)
