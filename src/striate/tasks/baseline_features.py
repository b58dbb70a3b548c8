"""Features of baselines: standardized inputs, histograms of oriented gradients, histograms of color."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from striate.data.dataset import Dataset, Split
from striate.data.loader import batches
from striate.data.normalize import Normalization
from striate.data.store.stored import Inputs

Features = NDArray[np.float32]

POSITIONS = 1024
"""Largest number of positions of each channel: images become at most 32 × 32, signals 1,024 steps long."""
HOG_SIDE = 128
"""Images with a longer side are averaged down to it before their gradients are taken."""
HOG_SMALLEST = 4
"""Images with a shorter side have no room for two cells each way."""
COLOR_BINS = (12, 4, 4)
"""Bins of hue, saturation and value."""
_CHUNK = 512


def describe_inputs(data: Dataset) -> str:
    """The features of `standardized_inputs` for a data set, in words."""
    what = f"standardized {data.medium.values}"
    if math.prod(data.input_shape[1:]) > POSITIONS:
        what += f", each channel averaged down to at most {POSITIONS:,} positions"
    return what


def standardized_inputs(inputs: Inputs, normalization: Normalization) -> Features:
    """(N, F) inputs with zero mean and unit variance per channel or feature, like those of the network; more than
    `POSITIONS` positions per channel are averaged down."""
    normalize = normalization.on("cpu", inputs.ndim)
    axes = inputs.ndim - 2
    limit = round(POSITIONS ** (1 / axes)) if axes else 0
    shape = [min(side, limit) for side in inputs.shape[2:]]

    def flat(part: torch.Tensor) -> Features:
        x = normalize(part)
        if axes and shape != list(x.shape[2:]):
            x = functional.interpolate(x, shape, mode="area")
        return np.asarray(x.flatten(1), dtype=np.float32)

    return by_chunks(inputs, flat)


def hog_cell(height: int, width: int) -> int:
    """Side of a cell in pixels, for about 8 × 8 cells per image, and at least two in each direction."""
    return min(max(2, math.ceil(math.sqrt(height * width / 64))), min(height, width) // 2)


def hog_features(inputs: Inputs) -> Features:
    """(N, F) histograms of oriented gradients of (N, C, H, W) uint8, C = 1 or 3, each of length 1.

    9 orientations, 2 × 2 cells per block, normalized by "L2-Hys"; color images use, at each pixel, the channel with the
    longest gradient. Source: N. Dalal and B. Triggs, "Histograms of oriented gradients for human detection", 2005.
    """
    from skimage.feature import hog

    def describe(part: torch.Tensor) -> Features:
        images = _limited(part).permute(0, 2, 3, 1).numpy()
        cell = hog_cell(*images.shape[1:3])
        rows = [
            hog(image, orientations=9, pixels_per_cell=(cell, cell), cells_per_block=(2, 2), channel_axis=-1)
            for image in images
        ]
        return _unit(np.stack(rows))

    return by_chunks(inputs, describe)


def shows_edges(data: Dataset) -> bool:
    """Whether the data are pictures that `edge_features` describes."""
    return data.medium.pictures and data.input_shape[0] in (1, 3) and min(data.input_shape[1:]) >= HOG_SMALLEST


def edge_features(inputs: Inputs) -> Features:
    """(N, F) `hog_features` of (N, C, H, W) uint8; with `color_histograms` for C = 3."""
    edges = hog_features(inputs)
    return np.concatenate([edges, color_histograms(inputs)], axis=1) if inputs.shape[1] == 3 else edges


def color_histograms(inputs: Inputs) -> Features:
    """(N, 192) square roots of the shares of hue × saturation × value in (N, 3, H, W) uint8, each row of length 1.

    A pixel is shared among the bins around it by trilinear interpolation, so that features are continuous; hue is
    cyclic. The root makes the dot product of two rows Hellinger's kernel (R. Arandjelović and A. Zisserman, 2012).
    """
    from skimage.color import rgb2hsv

    def describe(part: torch.Tensor) -> Features:
        pixels = rgb2hsv(_limited(part).permute(0, 2, 3, 1).numpy()).reshape(len(part), -1, 3)
        return _unit(np.sqrt(_soft_histogram(pixels)))

    return by_chunks(inputs, describe)


def _soft_histogram(pixels: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N, bins) from (N, P, 3) hue, saturation, value in 0 to 1, by trilinear interpolation."""
    hues, *others = COLOR_BINS
    places = pixels * np.array([hues, *(bins - 1 for bins in others)])
    lower = np.floor(places).astype(np.int64)
    upper_share = places - lower
    bins = math.prod(COLOR_BINS)
    histogram = np.zeros(len(pixels) * bins)
    image = np.arange(len(pixels))[:, None] * bins
    for corner in np.ndindex(2, 2, 2):
        h, s, v = (lower[..., axis] + corner[axis] for axis in range(3))
        share = np.prod(np.where(corner, upper_share, 1 - upper_share), axis=-1)
        # The share beyond the last bin is 0, but its position must exist.
        place = ((h % hues) * others[0] + np.minimum(s, others[0] - 1)) * others[1] + np.minimum(v, others[1] - 1)
        histogram += np.bincount((image + place).ravel(), share.ravel(), minlength=len(histogram))
    return histogram.reshape(len(pixels), bins)


def _limited(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) uint8 with no side longer than `HOG_SIDE`."""
    height, width = images.shape[2:]
    scale = HOG_SIDE / max(height, width)
    if scale >= 1:
        return images
    smaller = (max(1, round(height * scale)), max(1, round(width * scale)))
    return functional.interpolate(images.float(), smaller, mode="area").round().to(torch.uint8)


def _unit(rows: NDArray[np.floating]) -> Features:
    """Each row divided by its length; rows of zeros (uniform images have no gradients) stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def by_chunks(inputs: Inputs, describe: Callable[[torch.Tensor], Features]) -> Features:
    """The features of all inputs, computed for a few images at a time, since intermediate results are much larger."""
    places = torch.arange(len(inputs))
    parts = batches(Split(inputs.cpu(), places, places), _CHUNK)
    return np.concatenate([describe(part.inputs) for part in parts])
