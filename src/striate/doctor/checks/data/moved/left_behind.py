"""What each rule says of targets that stay where their inputs are moved."""

from __future__ import annotations

from striate.records import Finding

AUGMENTATION = "the augmentation of the training data set"
BETWEEN = "Half of the targets are at positions without the object: the network learns the mean of both positions."
FEWEST_LEFT = 3
"""Samples, or pairs of their draws, from which on a rule speaks."""


def left_behind(where: str, measured: str, limit: str, why: str, remedy: str) -> Finding:
    """What a rule found: where targets stay, how often, and from how many on that is said."""
    return Finding("data.targets-left-behind", "error", where, measured, limit, why, remedy)
