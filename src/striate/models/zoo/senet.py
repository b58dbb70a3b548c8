"""Squeeze-and-excitation networks. Hu, Shen and Sun, "Squeeze-and-excitation networks", CVPR 2018.

New: every block ends in a gate that scales its channels by what all of them hold together, for few more
multiply–accumulates (0.06 % in seresnet50). SENets won ILSVRC 2017, the last one, with 2.251 % top-5 error. seresnet50
is ResNet-50 with these gates; SENet-154 adds them to a ResNeXt-152 of 64 groups with half the channels in each first
1×1 convolution, a stem of three 3×3 convolutions, and 3×3 convolutions where a shortcut halves the size.

Parameters for 3×224×224 and 1000 classes: seresnet50 28,088,024, senet154 115,088,984. Names and shapes are timm's.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from striate.layers.blocks import SqueezeExcitation
from striate.models.registry import Form
from striate.models.zoo.image_size import check_image
from striate.models.zoo.resnet import (
    EXPANSION,
    STAGES_50,
    STAGES_152,
    Bottleneck,
    check_groups,
    residual_network,
    stem_layers,
)

GROUPS_154, WIDENING_154, NARROWING_154 = 64, 4, 2


def seresnet50(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """ResNet-50 with squeeze-and-excitation: images (C, H, W) of any size to (N, outputs).

    `width` and `stem` as in `resnet18`. Raises ModelError for tables, signals and volumes.
    """
    check_image("seresnet50", input_shape)
    return residual_network(
        stem_layers(input_shape[0], width, stem),
        width,
        STAGES_50,
        EXPANSION * width,
        partial(Bottleneck, gate=SqueezeExcitation),
        outputs,
    )


def senet154(
    input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published", dropout: float = 0.0
) -> nn.Module:
    """SENet-154: images (C, H, W) of any size to (N, outputs).

    `width`, a multiple of 32: channels of the first two convolutions; the first stage puts out four times as many.
    `stem=small` has no stride and no pooling before the first stage; its tensors are those of the published form.
    `dropout`: probability before the output layer, 0.2 in the paper, 0 in timm.
    Raises ModelError for other widths, and for tables, signals and volumes.
    """
    check_image("senet154", input_shape)
    check_groups("senet154", width, stem, WIDENING_154 // NARROWING_154, GROUPS_154)
    block = partial(
        Bottleneck,
        widening=WIDENING_154,
        groups=GROUPS_154,
        narrowing=NARROWING_154,
        kernel=3,
        gate=SqueezeExcitation,
    )
    layers = _deep_stem(input_shape[0], width, stem)
    return residual_network(layers, 2 * width, STAGES_152, EXPANSION * width, block, outputs, dropout)


def _deep_stem(in_channels: int, width: int, stem: Form) -> OrderedDict[str, nn.Module]:
    """Three 3×3 convolutions in place of one of 7×7; together they see 11×11 positions."""
    small = stem == "small"
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Sequential(
        nn.Conv2d(in_channels, width, 3, 1 if small else 2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
    )
    layers["bn1"] = nn.BatchNorm2d(2 * width)
    layers["relu"] = nn.ReLU()
    if not small:
        layers["maxpool"] = nn.MaxPool2d(3, 2, padding=1)
    return layers
