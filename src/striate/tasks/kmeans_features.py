"""Features of images that k-means learns from patches without labels (Coates, Ng and Lee 2011)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional

from striate.data.store.stored import Inputs, take_rows
from striate.tasks.baseline_features import Features, by_chunks

CENTERS = 200
SIDE = 32
"""Images with a longer side are averaged down to this side, that of the paper."""
SMALLEST = 8
"""Images with a shorter side have no room for patches in four quadrants."""
_PATCH, _PATCHES, _IMAGES = 6, 40_000, 4_000
_OF_EACH = 50
"""Largest number of patches of one image: more would overlap and add little."""
_CONTRAST, _WHITEN, _VARIANCE = 10.0, 0.1, 0.01
_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class KMeansFeatures:
    """The features of images that were learned by k-means: K centers of patches with D values."""

    patch: int
    """Height and width of a patch in pixels."""
    mean: torch.Tensor
    """(D,) mean of the patches."""
    whiten: torch.Tensor
    """(D, D) whitening matrix of the patches."""
    centers: torch.Tensor
    """(K, D) centers of the whitened patches."""
    center: NDArray[np.float32]
    """(4 K,) mean of the features."""
    std: NDArray[np.float32]
    """(4 K,) standard deviation of the features."""

    def __call__(self, inputs: Inputs) -> Features:
        """(N, 4 K) standardized features of (N, C, H, W) uint8: for each quadrant and center, by how much the center is
        nearer than the mean center ("triangle"), summed over the patches of the quadrant."""
        return (self.sums(inputs) - self.center) / self.std

    def sums(self, inputs: Inputs) -> Features:
        """The features before they are standardized."""
        return by_chunks(inputs, lambda part: np.concatenate([self._encode(few) for few in part.split(_AT_ONCE)]))

    def _encode(self, images: torch.Tensor) -> Features:
        """The codes of all patches, summed over the quadrants."""
        small = _limited(images)
        z = (_patches(small, self.patch) - self.mean) @ self.whiten
        distances = torch.cdist(z, self.centers)
        codes = (distances.mean(-1, keepdim=True) - distances).clamp_min(0)
        height, width = (side - self.patch + 1 for side in small.shape[2:])
        maps = codes.view(len(images), height, width, -1)
        top, left = height // 2, width // 2
        rows, columns = (slice(0, top), slice(top, None)), (slice(0, left), slice(left, None))
        quadrants = [maps[:, row, column].sum((1, 2)) for row in rows for column in columns]
        return np.asarray(torch.cat(quadrants, 1), dtype=np.float32)


def learn_kmeans_features(inputs: Inputs, seed: int) -> KMeansFeatures:
    """Learn features, without labels, from at most 4,000 images (N, C, H, W) uint8, evenly spaced.

    40,000 patches are drawn at random, at most 50 of each image, standardized, whitened (ZCA), and clustered into 200
    clusters. After A. Coates, H. Lee and A. Ng, "An analysis of single-layer networks in unsupervised feature
    learning", AISTATS 2011, with their patches of 6 × 6 pixels at every position, "triangle" codes and quadrants, and
    fewer centers than their 4,000.
    """
    count = min(_IMAGES, len(inputs))
    images = take_rows(inputs, torch.arange(count) * len(inputs) // count)
    small = _limited(images[:])
    patch = min(_PATCH, min(small.shape[2:]) // 2)
    every = torch.Generator().manual_seed(seed)
    each = min(_OF_EACH, math.ceil(_PATCHES / count))
    drawn = torch.cat([_draw(part, patch, each, every) for part in small.split(_AT_ONCE)])[:_PATCHES]
    mean, whiten = _whitening(drawn)
    z = ((drawn - mean) @ whiten).numpy()
    clusters = min(CENTERS, len(z))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer distinct patches than clusters, as in uniform images
        found = MiniBatchKMeans(clusters, random_state=seed, n_init=1, batch_size=4096, max_iter=30).fit(z)
    centers = torch.from_numpy(np.asarray(found.cluster_centers_, dtype=np.float32))
    nothing = np.zeros(1, np.float32)
    raw = KMeansFeatures(patch, mean, whiten, centers, nothing, nothing + 1).sums(images)
    std = np.sqrt(raw.var(0) + _VARIANCE)
    return KMeansFeatures(patch, mean, whiten, centers, raw.mean(0), std)


def _patches(images: torch.Tensor, patch: int) -> torch.Tensor:
    """(N, positions, D) of (N, C, H, W): each patch with mean 0 and about unit variance."""
    values = functional.unfold(images, patch).transpose(1, 2)
    centered = values - values.mean(-1, keepdim=True)
    return centered / (centered.square().mean(-1, keepdim=True) + _CONTRAST).sqrt()


def _draw(images: torch.Tensor, patch: int, each: int, draw: torch.Generator) -> torch.Tensor:
    """(N · each, D) patches at random positions."""
    every = _patches(images, patch)
    places = torch.randint(every.shape[1], (len(images), each), generator=draw)
    return every.gather(1, places[..., None].expand(-1, -1, every.shape[2])).flatten(0, 1)


def _whitening(patches: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean (D,) and the matrix (D, D) of zero-phase component analysis: V (Λ + 0.1)^−1/2 Vᵀ."""
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(patches.double().T))
    return mean, (vectors * (values.clamp_min(0) + _WHITEN).rsqrt() @ vectors.T).float()


def _limited(images: torch.Tensor) -> torch.Tensor:
    """(N, C, H, W) float32, 0 to 255, with no side longer than `SIDE`."""
    height, width = images.shape[2:]
    scale = SIDE / max(height, width)
    if scale >= 1:
        return images.float()
    smaller = (max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale)))
    return functional.interpolate(images.float(), smaller, mode="area")
