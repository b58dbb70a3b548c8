"""A small plain convolutional network for any grid. Batch normalization: Ioffe and Szegedy, ICML 2015; global average
pooling: Lin et al., "Network in network", ICLR 2014.

Stages of two 3-wide convolutions, twice as many filters a stage, halving the map while it is at least 4 wide: one
network for signals (C, L), images (C, H, W) and volumes (C, D, H, W). 72,666 parameters on 8×8 digits.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network

STAGES = 4


def layers(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> str:
    """The layer string for (C, *spatial)."""
    sizes = list(input_shape[1:])
    words: list[str] = []
    for stage in range(STAGES):
        if stage and max(sizes) < 4:
            break
        if stage:
            # Axes that are small already keep their size, so that a 1000×2 grid shrinks along its length only.
            window = [2 if size >= 4 else 1 for size in sizes]
            words.append(f"pool({'x'.join(map(str, window))})")
            sizes = [size // step for size, step in zip(sizes, window, strict=True)]
        words.append(f"2*[conv({width << stage},3,pad=1,bias=false) bn relu]")
    return " ".join([*words, f"gap fc({outputs})"])


def small_cnn(input_shape: tuple[int, ...], outputs: int, width: int = 16) -> nn.Module:
    """The network for (C, L), (C, H, W) or (C, D, H, W), every size at least 1: to (N, outputs).

    `width` is the number of filters of the first stage. Raises LayerStringError for tables.
    """
    return build_network(layers(input_shape, outputs, width), input_shape)
