"""Dilated convolutions for masks. Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016.

New: dilations of 1, 2, 4, 8 see far without ever making the map smaller, so any size works and no detail is lost.
47,394 parameters for 3 channels and 2 classes; each output sees 37×37 pixels.
"""

from __future__ import annotations

from torch import nn

from striate.models.from_spec import build_network

DILATIONS = (1, 1, 2, 4, 8, 1)


def small_dilated(input_shape: tuple[int, ...], outputs: int, width: int = 32) -> nn.Module:
    """The network for maps (C, *spatial) of any size: to (N, outputs, *spatial).

    Raises LayerStringError for tables.
    """
    blocks = [f"conv({width},3,pad={d},dilation={d},bias=false) bn relu" for d in DILATIONS]
    return build_network(" ".join([*blocks, f"conv({outputs},1)"]), input_shape)
