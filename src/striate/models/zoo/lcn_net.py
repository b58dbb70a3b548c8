"""The classifier of the lectures, [convolution → local contrast normalization → pooling]* and a fully connected layer.
Jarrett, Kavukcuoglu, Ranzato and LeCun, "What is the best multi-stage architecture for object recognition?", ICCV 2009.

New: rectification and local contrast normalization between filters and pooling matter more than how the filters are
learned. With three stages it has four layers with weights: 70,282 parameters on 1×28×28 with 10 classes. The lectures
leave sizes open; 5×5 filters, twice as many a stage, windows of 9×9 for the contrast (as in the paper) and 2×2 for max
pooling are the choices here.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network
from striate.models.layer_strings.shapes import Shape
from striate.models.zoo.image_size import Slide, check_image


def lcn_net(input_shape: Shape, outputs: int, stages: int = 3, width: int = 16) -> nn.Module:
    """The network for images (C, H, W): to (N, outputs).

    `stages` of convolution, ReLU, normalization and pooling, each halving the maps, so that images need 2^`stages`
    pixels a side; `width` filters in the first.
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    most = min(input_shape[1:]).bit_length() - 1 if len(input_shape) == 3 else 0
    fitting = f"lcn-net(stages={most},width={width})" if most else ""
    check_image("lcn-net", input_shape, stages * (Slide(5, 1, 2), Slide(2, 2)), fitting)
    words = [f"conv({width << stage},5,pad=2) relu lcn(9) pool(2)" for stage in range(stages)]
    return build_network(" ".join([*words, f"fc({outputs})"]), input_shape)
