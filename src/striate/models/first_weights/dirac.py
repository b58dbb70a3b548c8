"""First weights that pass on what came: filter i gives channel i, as far as there are channels."""

from __future__ import annotations

import torch
from torch import nn


def pass_on(weight: torch.Tensor, groups: int = 1) -> None:
    """Make, in place, the first filters of a (K, C, *kernel) convolution identities, one a channel; filters beyond the
    C-th stay as they are. Each of `groups` by itself.

    The middle position of the kernel is 1, all others are 0: with half its size of padding, output i is input i.
    Source: Zagoruyko and Komodakis, "DiracNets", 2017; for the first C filters alone, Jordan 2024 (arXiv 2404.00498).
    """
    for part in weight.data.chunk(groups):
        nn.init.dirac_(part[: weight.shape[1]])
