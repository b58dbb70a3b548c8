"""Which positions of a pyramid learn which object: by how well they predict it already.

Feng et al., "TOOD: task-aligned one-stage object detection", ICCV 2021. The alignment of a position with an object is
score^α · IoU^β; of the positions in the object, those with the highest alignment learn it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from striate.tasks.detect.overlap import pairwise_iou
from striate.tasks.detect.rotated import COUNT, rotated_iou

ALPHA, BETA, MOST = 1.0, 6.0, 10
"""Exponents of score and IoU, and how many positions learn one object."""
REACH = 0.75
"""Of the stride: a position so near to the center of an object may learn it though it lies outside, so that an object
that lies between positions has one."""


class Assigned(NamedTuple):
    """What each of P positions learns in each of B images."""

    learns: torch.Tensor
    """(B, P) whether the position learns an object."""
    boxes: torch.Tensor
    """(B, P, …) the box of that object."""
    labels: torch.Tensor
    """(B, P) its class number."""
    quality: torch.Tensor
    """(B, P) the score that the position should predict; 0 where it learns no object."""
    objects: torch.Tensor
    """(B, P) the number of the object."""


_AT_ONCE = 8_000_000
"""Pairs of an object and a position that are looked at together."""


@torch.no_grad()
def assign(
    scores: torch.Tensor,
    predicted: torch.Tensor,
    cells: torch.Tensor,
    boxes: torch.Tensor,
    labels: torch.Tensor,
    real: torch.Tensor,
) -> Assigned:
    """`scores` (B, P, K), 0 to 1, and `predicted` boxes (B, P, 4) of positions with `cells` (P, 3), their x, y and
    stride in pixels; objects with `boxes` (B, M, 4), `labels` (B, M) int64 and whether they are `real` (B, M), not
    filled up. Rotated boxes are (…, 5)."""
    step = max(1, _AT_ONCE // (boxes.shape[1] * len(cells)))
    if step < len(scores):
        found = []
        for start in range(0, len(scores), step):
            part = slice(start, start + step)
            # Objects that only fill up come last; of most images there are fewer than of the fullest one.
            last = (real[part].any(0).nonzero()[-1:] + 1).sum().clamp(min=1)
            objects = (given[part, :last] for given in (boxes, labels, real))
            found.append(assign(scores[part], predicted[part], cells, *objects))
        return Assigned(*map(torch.cat, zip(*found, strict=True)))
    candidates = _near(cells, boxes) & real[..., None]
    rotated = boxes.shape[2] == COUNT
    overlap = rotated_iou(boxes, predicted, candidates) if rotated else pairwise_iou(boxes, predicted).clamp_(0, 1)
    own = scores.transpose(1, 2).gather(1, labels[..., None].expand(-1, -1, scores.shape[1]))
    alignment = own.pow(ALPHA) * overlap.pow(BETA) * candidates
    most = min(MOST, alignment.shape[2])
    chosen = torch.zeros_like(candidates).scatter_(2, alignment.topk(most, dim=2).indices, True) & candidates
    # A position that several objects want learns the one that it overlaps most.
    best = torch.where(chosen, overlap, -1.0).max(1)
    chosen &= torch.arange(boxes.shape[1], device=boxes.device)[None, :, None] == best.indices[:, None]
    aligned = alignment * chosen
    highest = aligned.amax(2, keepdim=True).clamp(min=1e-12)
    # The best position of an object gets its IoU as target, the others their share of that.
    quality = (aligned / highest * (overlap * chosen).amax(2, keepdim=True)).amax(1)
    object_ = chosen.float().argmax(1)
    return Assigned(
        chosen.any(1),
        boxes.gather(1, object_[..., None].expand(-1, -1, boxes.shape[2])),
        labels.gather(1, object_),
        quality,
        object_,
    )


def _near(cells: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """(B, M, P): whether a position lies in a box, or near its center."""
    right, down = _from_center(cells, boxes)
    return _inside(right, down, boxes) | (torch.maximum(right.abs(), down.abs()) < REACH * cells[:, 2])


def _from_center(cells: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, M, P) how far each position is from the center of a box, along its width and along its height."""
    x, y = (cells[:, k] - (boxes[..., k] + boxes[..., k + 2])[..., None] / 2 for k in range(2))
    if boxes.shape[2] < COUNT:
        return x, y
    turn = torch.deg2rad(boxes[..., 4, None])
    return x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos()


def _inside(right: torch.Tensor, down: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    wide, high = ((boxes[..., k + 2] - boxes[..., k])[..., None] / 2 for k in range(2))
    return (right.abs() < wide) & (down.abs() < high)


def inside_any(cells: torch.Tensor, boxes: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """(B, P): whether a position lies in one of the boxes (B, M, 4 or 5) that `which` (B, M) names."""
    return (_inside(*_from_center(cells, boxes), boxes) & which[..., None]).any(1)
