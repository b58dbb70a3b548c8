"""ResNeXt. Xie, Girshick, Dollár, Tu and He, "Aggregated residual transformations for deep neural networks", CVPR 2017.

New: the 3×3 convolution of every bottleneck falls into groups that do not see each other ("cardinality", beside depth
and width); for the same computation, more of them are more accurate. 32x4d: 32 groups of 4 channels each in the first
stage, twice as many channels each in every later one. Second place of ILSVRC 2016, 3.03 % top-5 error.

Parameters for 3×224×224 and 1000 classes: resnext50_32x4d 25,028,904, resnext101_32x8d 88,791,336, resnext101_64x4d
83,455,272.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from striate.errors import ModelError
from striate.models.model_info import Form
from striate.models.zoo.image_size import check_image
from striate.models.zoo.resnet import (
    EXPANSION,
    STAGES_50,
    STAGES_101,
    Bottleneck,
    residual_network,
    stem_layers,
)

USUAL_WIDTH = 64


def resnext50_32x4d(input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published") -> nn.Module:
    """50 layers, 32 groups. For this and the networks below: images (C, H, W) of any size to (N, outputs).

    `width` and `stem` as in `resnet18`. The number of groups stays with another width, so that each is narrower or
    wider; ModelError where they cannot be equal, and for tables, signals and volumes.
    """
    return _resnext("resnext50_32x4d", input_shape, outputs, STAGES_50, width, stem, groups=32, group_width=4)


def resnext101_32x8d(
    input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published"
) -> nn.Module:
    """101 layers, 32 groups of 8 channels; otherwise as `resnext50_32x4d`."""
    return _resnext("resnext101_32x8d", input_shape, outputs, STAGES_101, width, stem, groups=32, group_width=8)


def resnext101_64x4d(
    input_shape: tuple[int, ...], outputs: int, width: int = 64, stem: Form = "published"
) -> nn.Module:
    """101 layers, 64 groups of 4 channels; otherwise as `resnext50_32x4d`."""
    return _resnext("resnext101_64x4d", input_shape, outputs, STAGES_101, width, stem, groups=64, group_width=4)


def _resnext(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    stages: Sequence[int],
    width: int,
    stem: Form,
    groups: int,
    group_width: int,
) -> nn.Module:
    check_image(name, input_shape)
    widening = groups * group_width // USUAL_WIDTH
    check_groups(name, width, stem, widening, groups)
    block = partial(Bottleneck, widening=widening, groups=groups)
    return residual_network(stem_layers(input_shape[0], width, stem), width, stages, EXPANSION * width, block, outputs)


def check_groups(name: str, width: int, stem: Form, widening: int, groups: int) -> None:
    """ModelError where `groups` groups do not divide the 3×3 convolution's channels, widening · width."""
    multiple = groups // widening
    if width % multiple:
        nearest = max(multiple, round(width / multiple) * multiple)
        arguments = f"width={nearest}" + (f", stem={stem}" if stem != "published" else "")
        got = f"width={width}: {widening}·{width} = {widening * width} channels in {groups} groups"
        raise ModelError(name, got, f"a width divisible by {multiple}", f'write "{name}({arguments})"')
