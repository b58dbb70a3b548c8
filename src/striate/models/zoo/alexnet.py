"""AlexNet in its three forms, and ZFNet.

AlexNet: Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012;
Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.

New: a large convolutional network trained on 1.2 million photographs on two graphics cards, with ReLU, dropout,
overlapping pooling and augmentation: 16.4 % top-5 error with five networks, where the best before had 26.2 %.

    alexnet-2012              two groups, one a card, in convolutions 2, 4 and 5: 60,965,224 parameters on 227×227
    alexnet-2012(groups=1)    the same without groups, the table of the lectures: 62,378,344
    alexnet                   one column of 64-192-384-256-256 filters, without response normalization ("one weird
                              trick", in torchvision's form): 61,100,840 on 224×224

The paper prints 224×224, but only 227 gives its 55×55 maps: (227 − 11) / 4 + 1 = 55.

ZFNet: Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.

New: a way to see what the maps of a network respond to, and AlexNet corrected by what it showed. Filters of 11×11 with
stride 4 left dead ones and aliasing, so the first layer has 7×7 and stride 2, and the second one stride 2. 38.4 % top-1
and 16.5 % top-5 error with one network (AlexNet, trained by the same authors: 40.5 and 18.1). The challenge of 2013 was
won at 11.7 % by Clarifai, Zeiler's company, with networks of this kind that were not published.

The paper gives no count. One column of figure 3 has 62,357,608 parameters at 224×224: AlexNet without groups has
62,378,344, and the first layer's 7×7 for 11×11 makes the difference, 3 · 96 · (121 − 49) = 20,736.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import nn

from striate.models.initialization.initialize import initialize_output
from striate.models.layer_strings.shapes import Shape
from striate.models.zoo.image_size import Slide, chain_sizes, check_image

Init = Literal["he", "printed"]

POOL = Slide(3, 2)
WINDOWS_2012 = (Slide(11, 4), POOL, Slide(5, 1, 2), POOL, *3 * (Slide(3, 1, 1),), POOL)
WINDOWS = (Slide(11, 4, 2), *WINDOWS_2012[1:])


def alexnet_2012(input_shape: Shape, outputs: int, groups: int = 2, init: Init = "he") -> nn.Module:
    """AlexNet as printed, for images (C, H, W) from 67×67: to (N, outputs).

    `groups` 2 cuts convolutions 2, 4 and 5 in halves that do not see each other; 1 joins them. At another size than
    227×227, `fc6` gets as many inputs as its maps then have (6,400 instead of 9,216 at 224×224).
    `init` is of all layers but the last (`initialize_output`). `he`: variance 2 / fan-in and zero biases (He et al.,
    2015); `printed`: the paper's N(0, 0.01²) with biases 1 in convolutions 2, 4, 5, fc6 and fc7, with which all images
    begin as nearly the same features: five steps of Adam at 3e-4 on four photographs of two classes take the loss from
    0.70 to 1.1, and with `he` below 0.2 (three seeds).
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    check_image("alexnet-2012", input_shape, WINDOWS_2012)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = nn.Conv2d(input_shape[0], 96, 11, stride=4)
    layers |= {"relu1": nn.ReLU(), "norm1": response_norm(), "pool1": nn.MaxPool2d(3, 2)}
    layers["conv2"] = nn.Conv2d(96, 256, 5, padding=2, groups=groups)
    layers |= {"relu2": nn.ReLU(), "norm2": response_norm(), "pool2": nn.MaxPool2d(3, 2)}
    layers |= {"conv3": nn.Conv2d(256, 384, 3, padding=1), "relu3": nn.ReLU()}
    layers |= {"conv4": nn.Conv2d(384, 384, 3, padding=1, groups=groups), "relu4": nn.ReLU()}
    layers |= {"conv5": nn.Conv2d(384, 256, 3, padding=1, groups=groups), "relu5": nn.ReLU()}
    layers |= {"pool5": nn.MaxPool2d(3, 2), "flatten": nn.Flatten()}
    rows, columns = (chain_sizes(size, WINDOWS_2012)[-1] for size in input_shape[1:])
    layers |= {"fc6": nn.Linear(256 * rows * columns, 4096), "relu6": nn.ReLU(), "dropout6": nn.Dropout(0.5)}
    layers |= {"fc7": nn.Linear(4096, 4096), "relu7": nn.ReLU(), "dropout7": nn.Dropout(0.5)}
    layers["fc8"] = output = nn.Linear(4096, outputs)
    network = nn.Sequential(layers)
    initialize_for_relu(network, output)
    if init == "printed":
        _initialize_as_printed(network)
    return network


def response_norm() -> nn.LocalResponseNorm:
    """The paper's: a / (2 + 1e-4 · Σ a²)^0.75, the sum over 5 neighboring maps."""
    # torch takes alpha times the mean.
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def _initialize_as_printed(network: nn.Sequential) -> None:
    for name, module in network.named_children():
        if isinstance(module, nn.Conv2d | nn.Linear) and name != "fc8":
            nn.init.normal_(module.weight, 0.0, 0.01)
            assert module.bias is not None
            # So that the ReLUs behind begin with positive inputs (section 5 of the paper).
            nn.init.constant_(module.bias, 0.0 if name in ("conv1", "conv3") else 1.0)


def alexnet(input_shape: Shape, outputs: int, width: int = 64) -> nn.Module:
    """The one-column AlexNet, for images (C, H, W) from 63×63: to (N, outputs).

    `width` filters in the first layer; all others and the 64 · `width` hidden units are in proportion. The last maps
    are averaged to 6×6, so that the weights fit any size.
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    check_image("alexnet", input_shape, WINDOWS)
    features = nn.Sequential(
        nn.Conv2d(input_shape[0], width, 11, stride=4, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(width, 3 * width, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(3 * width, 6 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6 * width, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4 * width, 4 * width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
    )
    hidden = 64 * width
    output = nn.Linear(hidden, outputs)
    classifier = nn.Sequential(
        nn.Dropout(0.5),
        nn.Linear(4 * width * 6 * 6, hidden),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        output,
    )
    parts = OrderedDict(features=features, avgpool=nn.AdaptiveAvgPool2d(6), flatten=nn.Flatten(), classifier=classifier)
    network = nn.Sequential(parts)
    initialize_for_relu(network, output)
    return network


def initialize_for_relu(network: nn.Module, output: nn.Linear) -> None:
    """Initialization, in place: variance 2 / fan-in (He et al., 2015), but for `output` (`initialize_output`); biases
    zero. With torch's own 1 / (3 · fan-in) the signal of a plain network would fade to a hundredth."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module is not output:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    initialize_output(output)


# The paper's 55×55 and 13×13 maps come of 110×110 and 26×26 only where a cut off window counts.
POOL_ZFNET = Slide(3, 2, round_up=True)
WINDOWS_ZFNET = (Slide(7, 2, 1), POOL_ZFNET, Slide(5, 2), POOL_ZFNET, *3 * (Slide(3, 1, 1),), Slide(3, 2))


def zfnet(input_shape: Shape, outputs: int, init: Init = "he") -> nn.Module:
    """ZFNet for images (C, H, W) from 63×63: to (N, outputs).

    Figure 3 of the paper: 96-256-384-384-256 maps, contrast normalization across maps after the first two poolings,
    dropout in both hidden layers of 4,096. Its constants are not printed; those of AlexNet are taken. At another size
    than 224×224, `fc6` gets as many inputs as its maps then have. `init` of all layers but the last: `he`, variance
    2 / fan-in; `printed`, the paper's N(0, 0.01²), with which the signal fades; biases are zero.
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    check_image("zfnet", input_shape, WINDOWS_ZFNET)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers |= {"conv1": nn.Conv2d(input_shape[0], 96, 7, stride=2, padding=1), "relu1": nn.ReLU()}
    layers |= {"pool1": nn.MaxPool2d(3, 2, ceil_mode=True), "norm1": response_norm()}
    layers |= {"conv2": nn.Conv2d(96, 256, 5, stride=2), "relu2": nn.ReLU()}
    layers |= {"pool2": nn.MaxPool2d(3, 2, ceil_mode=True), "norm2": response_norm()}
    layers |= {"conv3": nn.Conv2d(256, 384, 3, padding=1), "relu3": nn.ReLU()}
    layers |= {"conv4": nn.Conv2d(384, 384, 3, padding=1), "relu4": nn.ReLU()}
    layers |= {"conv5": nn.Conv2d(384, 256, 3, padding=1), "relu5": nn.ReLU()}
    layers |= {"pool5": nn.MaxPool2d(3, 2), "flatten": nn.Flatten()}
    rows, columns = (chain_sizes(size, WINDOWS_ZFNET)[-1] for size in input_shape[1:])
    layers |= {"fc6": nn.Linear(256 * rows * columns, 4096), "relu6": nn.ReLU(), "dropout6": nn.Dropout(0.5)}
    layers |= {"fc7": nn.Linear(4096, 4096), "relu7": nn.ReLU(), "dropout7": nn.Dropout(0.5)}
    output = nn.Linear(4096, outputs)
    network = nn.Sequential(OrderedDict(layers, fc8=output))
    initialize_for_relu(network, output)
    if init == "printed":
        for module in network.children():
            if isinstance(module, nn.Conv2d | nn.Linear) and module is not output:
                nn.init.normal_(module.weight, 0.0, 0.01)
    return network
