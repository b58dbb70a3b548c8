"""Losses of a segmentation, as sums over labeled pixels: the sums of the parts of a batch add up to that of the
batch."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.data.annotations.masks import IGNORED

LOSSES = (
    "cross-entropy",
    "focal",
    "dice",
    "cross-entropy+dice",
    "focal+dice",
    "cross-entropy+focal",
    "cross-entropy+focal+dice",
)
"""Names of `--task.loss`, the default first; `+` adds losses."""
SMALL_LOSS = "cross-entropy+dice"
_SMOOTH = 1.0  # in pixels, so that a class of few pixels has a gradient, without division by 0


def pixel_losses(
    names: str, logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None, gamma: float
) -> torch.Tensor:
    """Scalar sum of the losses in `names`, from logits (N, K, H, W) and targets (N, H, W) uint8, where 255 is ignored;
    each pixel has the weight of its class, `weights` (K,)."""
    parts = names.split("+")
    total = logits.new_zeros(())
    if "cross-entropy" in parts:
        total = total + functional.cross_entropy(
            logits, targets.long(), weight=weights, ignore_index=IGNORED, reduction="sum"
        )
    if "focal" in parts:
        total = total + _focal(logits, targets, weights, gamma)
    if "dice" in parts:
        total = total + _dice(logits, targets, weights)
    return total


def _focal(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None, gamma: float) -> torch.Tensor:
    """(1 - p)^gamma times the cross-entropy, p being the probability of the class. Lin, Goyal, Girshick, He and Dollár,
    "Focal loss for dense object detection", ICCV 2017."""
    each = functional.cross_entropy(logits, targets.long(), ignore_index=IGNORED, reduction="none")
    factor = (1 - torch.exp(-each)).clamp(min=0) ** gamma
    return (factor * each * _counts(targets, weights)).sum()


def _dice(logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """1 minus the mean soft Dice of the classes of an image, times the total weight of its labeled pixels. Milletari,
    Navab and Ahmadi, "V-Net", 3DV 2016."""
    labeled = targets != IGNORED
    truth = functional.one_hot(torch.where(labeled, targets, 0).long(), logits.shape[1]).movedim(-1, 1)
    truth = truth * labeled[:, None]
    predicted = logits.softmax(1) * labeled[:, None]
    both, either = (truth * predicted).flatten(2).sum(2), (truth + predicted).flatten(2).sum(2)
    occurs = truth.flatten(2).sum(2) > 0
    dice = torch.where(occurs, (2 * both + _SMOOTH) / (either + _SMOOTH), 0).sum(1) / occurs.sum(1).clamp(min=1)
    return ((1 - dice) * _counts(targets, weights).flatten(1).sum(1)).sum()


def _counts(targets: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """(N, H, W) weight of each pixel; 0 where it is not labeled."""
    labeled = targets != IGNORED
    return labeled.float() if weights is None else weights[torch.where(labeled, targets, 0).long()] * labeled
