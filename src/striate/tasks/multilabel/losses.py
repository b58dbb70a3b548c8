"""Losses of sets of labels, from logits (N, K) and targets (N, K) of 0 or 1."""

from __future__ import annotations

import torch
from torch.nn import functional


def binary_cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: tuple[torch.Tensor, torch.Tensor] | None = None
) -> torch.Tensor:
    """(N, K) log losses; `weights`: (K,) for labels that a sample has, and (K,) for those that it does not have."""
    losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return losses if weights is None else losses * torch.where(targets > 0.5, weights[0], weights[1])


def asymmetric(
    logits: torch.Tensor, targets: torch.Tensor, positive: float, negative: float, shift: float
) -> torch.Tensor:
    """(N, K) asymmetric losses: with p the probability and q = max(p − shift, 0), −(1 − p)^positive · log p for a label
    that a sample has, −q^negative · log(1 − q) for others, so that the many easy ones count little.

    Source: T. Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021.
    """
    p = logits.sigmoid()
    q = (p - shift).clamp(min=0)
    have = (1 - p) ** positive * functional.softplus(-logits)
    lack = q**negative * -torch.log1p(-q.clamp(max=1 - 1e-7))
    return targets * have + (1 - targets) * lack
