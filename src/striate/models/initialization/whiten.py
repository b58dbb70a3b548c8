"""Initialization from the training images: the first convolution whitens their patches.

Neighboring pixels are nearly equal, so the first layer of a network needs its first epochs to learn decorrelated
filters. The eigenvectors of the patches' covariance are such filters (Jordan 2024, arXiv 2404.00498, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from striate.errors import ConfigError
from striate.layers.convolution import WhiteningConv2d

_FLOOR = 5e-4  # added to each variance, in units of standardized inputs: directions that hardly vary are noise


def is_made_for_whitening(module: nn.Module) -> bool:
    """Whether the first convolution of the network is a whitening layer."""
    return isinstance(_first_convolution(module), WhiteningConv2d)


@torch.no_grad()
def whiten(module: nn.Module, batches: Iterable[torch.Tensor]) -> str:
    """Replace the kernels of the first convolution of `module`, in place, by frozen kernels that whiten patches of
    standardized images, from `batches` of (N, C, H, W). Returns one sentence that says so.

    Of K filters, the first K/2, at most C·h·w, are eigenvectors of the patches' covariance, in descending order of
    their variance and divided by its root. The next ones are their negatives; the rest and the biases do not change.
    The kernels depend on the images only. Raises ConfigError where there is no such convolution."""
    layer = _first_convolution(module)
    if not isinstance(layer, nn.Conv2d) or layer.groups != 1 or layer.out_channels < 2:
        what = "no convolution of images" if layer is None else f"first a {layer}"
        raise ConfigError(
            "model.whiten",
            f"true for a network with {what}",
            "a first convolution of images with two or more filters and all input channels",
            "leave out --model.whiten, or take --model airbench",
        )
    values, vectors = torch.linalg.eigh(patch_covariance(batches, layer))
    # The sign of an eigenvector is arbitrary: its largest component is made positive.
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    kernels = (vectors * signs / (values + _FLOOR).sqrt()).T.flip(0)  # from the largest variance down
    count = min(layer.out_channels // 2, len(kernels))
    kernels = kernels[:count].reshape(count, *layer.weight.shape[1:]).to(layer.weight)
    layer.weight[: 2 * count] = torch.cat([kernels, -kernels])
    layer.weight.requires_grad_(False)
    height, width = layer.kernel_size
    return f"first layer: {height}×{width} patches of the training images, whitened; its kernels are frozen"


def patch_covariance(batches: Iterable[torch.Tensor], layer: nn.Conv2d) -> torch.Tensor:
    """The covariance (C·h·w, C·h·w) of the patches that a filter reads, over all positions and images, without padding;
    float64 on the CPU."""
    size, step, dilation = layer.kernel_size, layer.stride, layer.dilation
    length = layer.in_channels * size[0] * size[1]
    products = torch.zeros(length, length, dtype=torch.float64)
    sums, count = torch.zeros(length, dtype=torch.float64), 0
    for images in batches:
        patches = nn.functional.unfold(images.float(), size, dilation, 0, step)  # (N, C·h·w, places)
        flat = patches.transpose(0, 1).reshape(length, -1)
        products += (flat @ flat.T).double().cpu()
        sums += flat.sum(1).double().cpu()
        count += flat.shape[1]
    mean = sums / count
    return products / count - mean[:, None] * mean[None, :]


def _first_convolution(module: nn.Module) -> nn.Module | None:
    """The first convolution in the order of registration, usually that of execution."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return next((layer for layer in module.modules() if isinstance(layer, kinds)), None)
