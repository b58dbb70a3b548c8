"""Networks for handwritten digits."""

from __future__ import annotations

from striate.models.model_info import ZOO, ModelInfo

ENTRIES = (
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
)
