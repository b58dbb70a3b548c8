"""LeNet-5. LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE, 1998.

New: convolution, subsampling and full connections trained together from pixels to classes; 0.95 % error on MNIST.

    lenet5-1998   as printed, for 32×32: 60,000 trainable parameters, 340,908 connections
        C1   6 maps of 28×28, 5×5 kernels                                      156
        S2   6 maps of 14×14: sums of 2×2, a coefficient and a bias a map       12
        C3   16 maps of 10×10, 5×5 kernels, 60 of 96 connections             1,516
        S4   16 maps of 5×5                                                     32
        C5   120 units, 5×5 kernels that cover the maps                     48,120
        F6   84 units                                                       10,164
        output   10 radial basis functions around fixed bitmaps of 7×12          0
    lenet5        the common modern form: every filter sees every channel, max pooling, ReLU and a linear output in
                  place of connection table, trainable subsampling, scaled tanh and radial basis functions:
                  61,706 parameters for 10 classes
Codes of ±1 for the output units of LeNet-5: stylized digits of 7×12 pixels.

The paper shows such bitmaps for all of ASCII in its figure 3. These ten were drawn anew for this project in the same
format, since the paper does not print its pixels as numbers; they are not the originals.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from striate.layers.activations import ScaledTanh
from striate.layers.convolution import PartialConvolution
from striate.layers.pooling import Subsampling
from striate.layers.radial_basis import RadialBasis
from striate.models.from_spec import build_network
from striate.models.layer_strings.shapes import Shape
from striate.models.zoo.image_size import Slide, chain_sizes, check_image

ROWS, COLUMNS = 12, 7

_DIGITS = """
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    ..###..  ...##..  .#####.  .#####.  .....##  #######  ..####.  #######  .#####.  .#####.
    .##.##.  ..###..  ##...##  ##...##  ....###  ##.....  .##....  .....##  ##...##  ##...##
    ##...##  .####..  .....##  .....##  ...####  ##.....  ##.....  .....##  ##...##  ##...##
    ##...##  ...##..  .....##  .....##  ..##.##  ######.  ##.....  ....##.  ##...##  ##...##
    ##...##  ...##..  ....##.  ..####.  .##..##  .....##  ######.  ....##.  .#####.  .######
    ##...##  ...##..  ...##..  .....##  ##...##  .....##  ##...##  ...##..  ##...##  .....##
    ##...##  ...##..  ..##...  .....##  #######  .....##  ##...##  ...##..  ##...##  .....##
    .##.##.  ...##..  .##....  ##...##  .....##  ##...##  ##...##  ..##...  ##...##  ....##.
    ..###..  .######  #######  .#####.  .....##  .#####.  .#####.  ..##...  .#####.  .####..
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    .......  .......  .......  .......  .......  .......  .......  .......  .......  .......
    """


def output_codes(outputs: int) -> list[list[float]]:
    """One code of 84 numbers, +1 or −1, for each of `outputs` classes.

    For ten classes the digits above, row by row, ink as +1. For any other number, codes of independent coins, always
    the same ones: two of them differ in 42 ± 5 places.
    """
    if outputs == 10:
        rows = [line.split() for line in _DIGITS.split("\n") if line.strip()]
        return [[1.0 if ink == "#" else -1.0 for row in rows for ink in row[digit]] for digit in range(10)]
    # The legacy generator, because its stream is frozen for all versions of NumPy.
    coins = np.random.RandomState(1998).randint(2, size=(outputs, ROWS * COLUMNS))
    codes: list[list[float]] = (2.0 * coins - 1).tolist()
    return codes


CONNECTIONS = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
"""Table I: which maps of S2 each map of C3 sees."""


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


def lenet5_1998(input_shape: Shape, outputs: int) -> nn.Module:
    """LeNet-5 as printed, for images (C, H, W) from 12×12: to (N, outputs), minus the squared distances to the codes.

    Images smaller than 32×32 are padded by 2 in C1, and the kernels of C5 cover its maps whatever their size. Codes of
    other than ten classes are random ones (`output_codes`). Initialization as in the paper: uniform in ±2.4 / fan-in,
    with which all classes begin about equally near.
    Raises ModelError for smaller images, and for tables, signals and volumes.
    """
    padding = 2 if len(input_shape) == 3 and min(input_shape[1:]) < 32 else 0
    windows = (Slide(5, 1, padding), Slide(2, 2), Slide(5), Slide(2, 2))
    check_image("lenet5-1998", input_shape, windows)
    rows, columns = (chain_sizes(size, windows)[-1] for size in input_shape[1:])
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers |= {"c1": nn.Conv2d(input_shape[0], 6, 5, padding=padding), "tanh1": ScaledTanh()}
    layers |= {"s2": Subsampling(6), "tanh2": ScaledTanh()}
    layers |= {"c3": PartialConvolution(6, CONNECTIONS, 5), "tanh3": ScaledTanh()}
    layers |= {"s4": Subsampling(16), "tanh4": ScaledTanh()}
    layers |= {"c5": nn.Conv2d(16, 120, (rows, columns)), "tanh5": ScaledTanh(), "flatten": nn.Flatten()}
    layers |= {
        "f6": nn.Linear(120, ROWS * COLUMNS),
        "tanh6": ScaledTanh(),
        "output": RadialBasis(output_codes(outputs)),
    }
    network = nn.Sequential(layers)
    _initialize(network)
    return network


def _initialize(network: nn.Sequential) -> None:
    for module in network:
        if isinstance(module, PartialConvolution):
            kernels_of_maps = module.weight.split([len(seen) for seen in module.table])
            for kernels, bias in zip(kernels_of_maps, module.bias.split(1), strict=True):
                _draw(kernels.numel(), kernels, bias)
        elif isinstance(module, Subsampling):
            _draw(module.size**2, module.weight, module.bias)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            assert module.bias is not None
            _draw(module.weight[0].numel(), module.weight, module.bias)


def _draw(fan_in: int, *parameters: torch.Tensor) -> None:
    for parameter in parameters:
        nn.init.uniform_(parameter, -2.4 / fan_in, 2.4 / fan_in)
