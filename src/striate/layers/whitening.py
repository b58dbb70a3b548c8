"""A convolution that whitens its input, by kernels that are computed from data instead of learned."""

from __future__ import annotations

from torch import nn


class WhiteningConv2d(nn.Conv2d):
    """(N, C, H, W) to (N, 2·C·k², ⌊(H − k) / stride⌋ + 1, …): patches along the eigenvectors of their covariance, each
    of variance 1 and once with either sign, so that a rectifier after it loses nothing.

    The kernels do not learn; a bias does. Until `models.first_weights.whiten` has computed them from training images,
    they are random as those of any convolution.

    Source: Jordan, "94 % on CIFAR-10 in 3.29 seconds on a single GPU", 2024, section 3.2; Page, "How to train your
    ResNet", 2019.
    """

    def __init__(self, in_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__(in_channels, 2 * in_channels * kernel_size**2, kernel_size, stride)
        self.weight.requires_grad_(False)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
