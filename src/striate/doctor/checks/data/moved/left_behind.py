"""The finding of all rules for targets that stay while their inputs move."""

from __future__ import annotations

from striate.records import Finding

AUGMENTATION = "the augmentation of the training data set"
BETWEEN = "Half of the targets are at positions without the object: the network learns the mean of both positions."
FEWEST_LEFT = 3
"""The fewest samples, or pairs of draws, for a finding."""


def left_behind(where: str, measured: str, limit: str, why: str, remedy: str) -> Finding:
    """A finding of `data.targets-left-behind`."""
    return Finding("data.targets-left-behind", "error", where, measured, limit, why, remedy)
