"""Networks for handwritten digits."""

from __future__ import annotations

from striate.models.layer_strings.words import Parameter
from striate.models.model_info import ZOO, ModelInfo, PublishedError, width

_LENET = "LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86"

ENTRIES = (
    ModelInfo(
        name="lenet5-1998",
        path=ZOO + "lenet:lenet5_1998",
        year=1998,
        description="LeNet-5 as printed: connection table, trainable subsampling, distances to bitmaps as outputs",
        source=_LENET,
        input_shape=(1, 32, 32),
        outputs=10,
        published_parameters=60_000,
        published_macs=415_680,
        errors=(
            PublishedError(0.95, None, "MNIST test, one network, trained on 60,000 digits", f"{_LENET}, section III-C"),
            PublishedError(0.8, None, "MNIST test, 540,000 distorted digits added", f"{_LENET}, section III-C"),
        ),
    ),
    ModelInfo(
        name="lenet5",
        path=ZOO + "lenet:lenet5",
        year=1998,
        description="the first convolutional network in wide use, in its common modern form",
        source="LeCun et al., Gradient-based learning applied to document recognition, Proc. IEEE 86",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=61_706,
        published_macs=416_520,
    ),
    ModelInfo(
        name="mnist-cnn",
        path=ZOO + "mnist_cnn:mnist_cnn",
        year=2012,
        description="two convolutions and a hidden layer with dropout; for small gray images",
        source="the network of the lectures, 16c5-p2-24c5-p2-64-10; dropout: Hinton et al., arXiv:1207.0580",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=35_330,
        published_macs=870_016,
    ),
    ModelInfo(
        name="lcn-net",
        path=ZOO + "lcn_net:lcn_net",
        year=2009,
        description="[convolution, local contrast normalization, pooling]* and a fully connected layer",
        source="the lectures; Jarrett et al., What is the best multi-stage architecture for object recognition, 2009",
        input_shape=(1, 28, 28),
        outputs=10,
        published_parameters=70_282,
        published_macs=5_336_960,
        parameters=(Parameter("stages", "count", 3, low=1, high=8), width(16)),
    ),
)
