"""VGG. Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015.

New: depth from 3×3 filters alone. Two of them see 5×5 and three 7×7, with fewer weights and a ReLU between each; maps
are halved by pooling, and their number is then doubled. 7.3 % top-5 error in the challenge of 2014, second place.

    parameters         without      with batch normalization (Ioffe and Szegedy, 2015; not in the paper)
    vgg11  (A)     132,863,336      132,868,840
    vgg13  (B)     133,047,848      133,053,736
    vgg16  (D)     138,357,544      138,365,992      of which 102,760,448 are in the weights of one layer, the first
    vgg19  (E)     143,667,240      143,678,248      fully connected one

Arguments of each: `width` channels in the first stage, up to 8 · `width` in the last, and 64 · `width` hidden units.
`head`: `published` averages the last maps to 7×7 and ends in three fully connected layers; `small` averages them to one
number a map and ends in one, which is what is left to do where the last maps are 1×1, as on 32×32. Each raises
ModelError for images below 32×32, and for tables, signals and volumes.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from striate.models.initialization.initialize import initialize_output
from striate.models.layer_strings.shapes import Shape
from striate.models.registry import Form
from striate.models.zoo.image_size import Slide, check_image

CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Layers with weights, to how many of them each of the five stages has; three more are fully connected."""
POOLINGS = 5 * (Slide(2, 2),)


_OF_TIMM = {"pre_logits.fc1": "classifier.0", "pre_logits.fc2": "classifier.3", "head.fc": "classifier.6"}


class VGG(nn.Sequential):
    """(N, C, H, W) to logits (N, K)."""

    @staticmethod
    def older_name(name: str) -> str:
        """The name that a tensor of a file has here: timm's fully connected layers are convolutions over the map."""
        layer, _, what = name.rpartition(".")
        return f"{_OF_TIMM.get(layer, layer)}.{what}"


def _vgg(name: str, input_shape: Shape, outputs: int, width: int = 64, head: Form = "published") -> nn.Module:
    """`vgg<layers>`, or `vgg<layers>_bn` with batch normalization after every convolution: for images (C, H, W) from
    32×32 to (N, outputs)."""
    check_image(name, input_shape, POOLINGS)
    depth, _, normalized = name.removeprefix("vgg").partition("_")
    features = _features(input_shape[0], width, CONVOLUTIONS[int(depth)], bool(normalized))
    small = head == "small"
    classifier = nn.Linear(8 * width, outputs) if small else _classifier(8 * width, 64 * width, outputs)
    average = nn.AdaptiveAvgPool2d(1 if small else 7)
    network = VGG(OrderedDict(features=features, avgpool=average, flatten=nn.Flatten(), classifier=classifier))
    _initialize(network)
    return network


def _features(channels: int, width: int, counts: tuple[int, ...], normalized: bool) -> nn.Sequential:
    """Five stages of 3×3 convolutions, each halving the maps at its end."""
    layers: list[nn.Module] = []
    for stage, count in enumerate(counts):
        filters = width * min(2**stage, 8)
        for _ in range(count):
            layers.append(nn.Conv2d(channels, filters, 3, padding=1))
            layers += [nn.BatchNorm2d(filters)] if normalized else []
            layers.append(nn.ReLU())
            channels = filters
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def _classifier(channels: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(channels * 7 * 7, hidden),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, outputs),
    )


def _initialize(network: nn.Module) -> None:
    """Convolutions: 2 / fan-out (He et al., 2015); hidden layers: N(0, 0.01²), as in the paper; biases zero."""
    last: nn.Linear | None = None
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            last = module
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    assert last is not None
    initialize_output(last)


vgg11, vgg13, vgg16, vgg19 = (partial(_vgg, f"vgg{layers}") for layers in CONVOLUTIONS)
vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn = (partial(_vgg, f"vgg{layers}_bn") for layers in CONVOLUTIONS)
