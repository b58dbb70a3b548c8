"""The seeds of a cross-validation: what is dealt follows from `data.split_seed`, what is trained from `seed`."""

from __future__ import annotations

from striate.data.counter_random import hash_key

_32_BITS = 0xFFFFFFFF


def dealing_seed(split_seed: int, repeat: int) -> int:
    """Of the folds of one repeat, counted from 0."""
    return hash_key(split_seed, repeat, 0) & _32_BITS


def validation_seed(split_seed: int, repeat: int, fold: int) -> int:
    """Of the validation part of one fold."""
    return hash_key(split_seed, repeat, fold, 1)


def training_seed(seed: int, repeat: int, fold: int) -> int:
    """Of initialization, order, augmentation and dropout of one fold."""
    return hash_key(seed, repeat, fold, 2) & _32_BITS
