"""ImageNet's progress: the best predictions of the challenge of each year, and a human's; free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from striate.models.catalog import read_catalog

Method = Literal["features", "network", "human"]


@dataclass(frozen=True)
class ChallengeResult:
    """One entry of the classification task of the ImageNet challenge (ILSVRC): 1,000 classes, labels kept secret."""

    year: int
    team: str
    network: str
    top5: float
    """Percent of test images whose label is not among the five most probable classes."""
    method: Method
    """Hand-made features with a linear classifier, a convolutional network, or a human."""
    source: str
    test_set: str
    """How many images, and whose."""
    place: int | None = None
    """The rank in the year's challenge, with the given training data only."""
    depth: int | None = None
    """Layers with weights, as the paper counts them."""
    averaged: int | None = None
    """Of how many networks the predictions are averaged, where that is known."""
    zoo: tuple[str, ...] = ()
    """Networks of the zoo that it was made of, or that are its published form."""
    extra_data_top5: float | None = None
    """The same team's error with more training images."""


HISTORY = tuple(ChallengeResult(**result) for result in read_catalog("history.toml")["result"])
"""By year, within a year from the worse to the better."""
