"""What the first layer takes from the training images before the first step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from striate.data.dataset import Split
from striate.data.normalize import Normalize
from striate.errors import ConfigError
from striate.models.first_weights.whiten import is_made_for_whitening, whiten
from striate.training.config import Config

PIXELS = 5_120_000
"""Of the images that are looked at: those of 5,000 of 32×32 have the covariance to a percent."""
_CHUNK = 250_000  # pixels at once: their patches together are a few megabytes


def whiten_first_layer(
    network: nn.Module, config: Config, train: Split, normalize: Normalize, *, has_weights: bool
) -> list[str]:
    """Whiten the first layer, in place, where `model.whiten` says so or, left open, the network is made for it; what
    should be known of it. `has_weights`: the network begins with learned ones, which stay.

    Looks at samples evenly spaced over `train`, the same in every run. Raises ConfigError where that cannot be.
    """
    asked = config.model.whiten
    if asked and has_weights:
        raise ConfigError(
            "model.whiten",
            "true for a network that begins with learned weights",
            "random ones, which whitening replaces",
            "leave out --model.whiten",
        )
    if has_weights or not (is_made_for_whitening(network) if asked is None else asked):
        return []
    return [whiten(network, _spread(train, normalize))]


def _spread(train: Split, normalize: Normalize) -> Iterator[torch.Tensor]:
    """Standardized images from all over the split, a few at a time."""
    pixels = 1
    for side in train.inputs.shape[2:]:
        pixels *= side
    count = min(len(train), max(100, PIXELS // pixels))
    places = torch.arange(count) * len(train) // count
    for chunk in places.split(max(1, _CHUNK // pixels)):
        yield normalize(train.inputs[chunk])
