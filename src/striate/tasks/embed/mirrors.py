"""Whether a mirror image has the class of its image: that of a face does, that of a letter seldom."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.dataset import Dataset
from striate.tasks.baseline_features import HOG_SMALLEST, hog_features

_COMPARED, _EACH, _FEWEST = 300, 10, 20
"""Largest number of images that are compared, largest number per class, and smallest total number."""
ENOUGH = 0.55
"""The ratio from which mirror images have the class. Measured: 0.64 to 0.85 for faces, 0.7 for clothes (whose shoes all
point to the left), 0.41 for ten digits, 0.29 to 0.43 for the characters of four alphabets."""


def mirrors_keep_class(data: Dataset) -> float | None:
    """How often the nearest image of a mirrored training image, by histograms of oriented gradients, has its class,
    divided by how often that of the original image has. None for too few images, and for inputs other than pictures of
    one or three channels."""
    train = data.splits["train"]
    shape = data.input_shape
    if not data.medium.pictures or len(shape) != 3 or shape[0] not in (1, 3) or min(shape[1:]) < HOG_SMALLEST:
        return None
    labels = train.targets.cpu().numpy()
    chosen: list[int] = []
    for number in np.random.default_rng(0).permutation(np.unique(labels)).tolist():
        own = np.flatnonzero(labels == number)[:_EACH]
        chosen += own.tolist() if len(own) > 1 and len(chosen) < _COMPARED else []
    there = labels[chosen]
    if len(chosen) < _FEWEST or len(np.unique(there)) < 2:
        return None
    images = train.inputs[torch.tensor(chosen)].cpu()
    plain = hog_features(images)

    def right(features: np.ndarray) -> int:
        near = features @ plain.T
        np.fill_diagonal(near, -np.inf)
        return int((there[near.argmax(1)] == there).sum())

    return right(hog_features(images.flip(-1))) / max(1, right(plain))
