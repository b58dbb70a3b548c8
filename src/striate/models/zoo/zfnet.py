"""ZFNet. Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014.

New: a way to see what the maps of a network respond to; and what it showed of AlexNet, mended. Filters of 11×11 with
stride 4 left dead ones and aliasing, so the first layer has 7×7 and stride 2, and the second one stride 2. 38.4 % top-1
and 16.5 % top-5 error with one network (AlexNet, trained by the same authors: 40.5 and 18.1). The challenge of 2013 was
won at 11.7 % by Clarifai, Zeiler's company, with networks of this kind that were not published.

The paper gives no count. One column of figure 3 has 62,357,608 parameters at 224×224: AlexNet without groups has
62,378,344, and the first layer's 7×7 for 11×11 makes the difference, 3 · 96 · (121 − 49) = 20,736.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from striate.models.layer_strings.shapes import Shape
from striate.models.zoo.alexnet import Init, initialize_for_relu, response_norm
from striate.models.zoo.image_size import Slide, chain_sizes, check_image

# The paper's 55×55 and 13×13 maps come of 110×110 and 26×26 only where a cut off window counts.
POOL = Slide(3, 2, round_up=True)
WINDOWS = (Slide(7, 2, 1), POOL, Slide(5, 2), POOL, *3 * (Slide(3, 1, 1),), Slide(3, 2))


def zfnet(input_shape: Shape, outputs: int, init: Init = "he") -> nn.Module:
    """ZFNet for images (C, H, W) from 63×63: to (N, outputs).

    Figure 3 of the paper: 96-256-384-384-256 maps, contrast normalization across maps after the first two poolings,
    dropout in both hidden layers of 4,096. Its constants are not printed; those of AlexNet are taken. At another size
    than 224×224, `fc6` gets as many inputs as its maps then have. `init` of all layers but the last: `he`, variance
    2 / fan-in; `printed`, the paper's N(0, 0.01²), with which the signal fades; biases are zero.
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    check_image("zfnet", input_shape, WINDOWS)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers |= {"conv1": nn.Conv2d(input_shape[0], 96, 7, stride=2, padding=1), "relu1": nn.ReLU()}
    layers |= {"pool1": nn.MaxPool2d(3, 2, ceil_mode=True), "norm1": response_norm()}
    layers |= {"conv2": nn.Conv2d(96, 256, 5, stride=2), "relu2": nn.ReLU()}
    layers |= {"pool2": nn.MaxPool2d(3, 2, ceil_mode=True), "norm2": response_norm()}
    layers |= {"conv3": nn.Conv2d(256, 384, 3, padding=1), "relu3": nn.ReLU()}
    layers |= {"conv4": nn.Conv2d(384, 384, 3, padding=1), "relu4": nn.ReLU()}
    layers |= {"conv5": nn.Conv2d(384, 256, 3, padding=1), "relu5": nn.ReLU()}
    layers |= {"pool5": nn.MaxPool2d(3, 2), "flatten": nn.Flatten()}
    rows, columns = (chain_sizes(size, WINDOWS)[-1] for size in input_shape[1:])
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
