"""Weights of classes by their frequency."""

from __future__ import annotations

import torch

from striate.errors import DataError


def balanced_weights(counts: torch.Tensor, classes: tuple[str, ...]) -> tuple[float, ...]:
    """n / (K · n_k), scikit-learn's "balanced" heuristic (King and Zeng 2001), from (K,) float64 counts.

    Raises DataError where a class has none.
    """
    if (counts == 0).any():
        missing = [c for c, n in zip(classes, counts.tolist(), strict=True) if n == 0]
        raise DataError(
            "task.class_weights",
            f"balanced, with no training sample of {', '.join(missing[:5])}",
            "at least one training sample of each class",
            "--task.class_weights none",
        )
    return tuple((counts.sum() / (len(classes) * counts)).tolist())
