"""LeNet-5. LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE, 1998.

New: convolution, subsampling and full connections trained together from pixels to classes; 0.95 % error on MNIST.
The common modern form: every filter sees every channel, max pooling, ReLU and a linear output in place of the
connection table, trainable subsampling, scaled tanh and radial basis functions: 61,706 parameters for 10 classes.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network


def lenet5(input_shape: tuple[int, ...], outputs: int) -> nn.Module:
    """LeNet-5 for images (C, H, W): to (N, outputs).

    32×32 as published; smaller images down to 12×12 are padded by 2 in the first layer, so that 28×28 gives the same
    maps. Raises LayerStringError where an image is too small.
    """
    padded = len(input_shape) > 1 and min(input_shape[1:]) < 32
    first = "conv(6,5,pad=2)" if padded else "conv(6,5)"
    return build_network(
        f"{first} relu pool(2) conv(16,5) relu pool(2) fc(120) relu fc(84) relu fc({outputs})", input_shape
    )
