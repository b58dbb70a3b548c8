"""Which classes outputs stand for."""

from __future__ import annotations

import torch


def accuracy_of(outputs: torch.Tensor | None, targets: torch.Tensor | None) -> float | None:
    """The share of samples whose class is right: of (N, K, …) by the largest output, of (N,) or (N, 1) against two
    classes by its sign, or by a half where all lie in 0 to 1. None where it is no such thing."""
    predictions = classes_of(outputs, targets)
    if predictions is None or targets is None:
        return None
    return float((predictions == targets.to(predictions.device).reshape(predictions.shape).long()).float().mean())


def classes_of(outputs: torch.Tensor | None, targets: torch.Tensor | None) -> torch.Tensor | None:
    """The classes that outputs stand for, in the shape of the targets; None where they are no such thing."""
    if outputs is None or targets is None or not targets.numel() or not outputs.numel() or not targets.ndim:
        return None
    outputs = outputs.detach()
    if outputs.ndim == targets.ndim + 1 and outputs.shape[1] > 1 and not targets.is_floating_point():
        return outputs.argmax(1) if outputs.shape[2:] == targets.shape[1:] and len(outputs) == len(targets) else None
    if outputs.numel() == targets.numel() == len(targets) and bool(((targets == 0) | (targets == 1)).all()):
        flat = outputs.reshape(targets.shape)
        limit = 0.5 if bool(((flat >= 0) & (flat <= 1)).all()) else 0.0
        return (flat > limit).long()
    return None
