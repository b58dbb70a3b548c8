"""Assigns objects to the positions of a pyramid that learn them, by how well the positions predict them already.

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
"""In strides: a position outside of an object, but within this distance of its center, may learn it, so that an object
between positions has one."""


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
"""Number of pairs of an object and a position that are computed together."""


@torch.no_grad()
def assign(
    scores: torch.Tensor,
    predicted: torch.Tensor,
    cells: torch.Tensor,
    boxes: torch.Tensor,
    labels: torch.Tensor,
    real: torch.Tensor,
) -> Assigned:
    """Assign objects to positions.

    Positions have `scores` (B, P, K), 0 to 1, `predicted` boxes (B, P, 4), and `cells` (P, 3), their x, y and stride in
    pixels. Objects have `boxes` (B, M, 4) and `labels` (B, M) int64; `real` (B, M) is false for padding. Rotated boxes
    are (…, 5).
    """
    step = max(1, _AT_ONCE // (boxes.shape[1] * len(cells)))
    if step < len(scores):
        found = []
        for start in range(0, len(scores), step):
            part = slice(start, start + step)
            # Padding comes last, and most images have fewer objects than the fullest one.
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
    # A position that is a candidate for several objects learns the one that it overlaps most.
    best = torch.where(chosen, overlap, -1.0).max(1)
    chosen &= torch.arange(boxes.shape[1], device=boxes.device)[None, :, None] == best.indices[:, None]
    aligned = alignment * chosen
    highest = aligned.amax(2, keepdim=True).clamp(min=1e-12)
    # The target of the best position of an object is its IoU; the others get a share of it.
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
    """(B, M, P) whether each position lies in a box, or near its center."""
    right, down = _from_center(cells, boxes)
    return _inside(right, down, boxes) | (torch.maximum(right.abs(), down.abs()) < REACH * cells[:, 2])


def _from_center(cells: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, M, P) distances of each position from the center of a box, along its width and along its height."""
    x, y = (cells[:, k] - (boxes[..., k] + boxes[..., k + 2])[..., None] / 2 for k in range(2))
    if boxes.shape[2] < COUNT:
        return x, y
    turn = torch.deg2rad(boxes[..., 4, None])
    return x * turn.cos() - y * turn.sin(), x * turn.sin() + y * turn.cos()


def _inside(right: torch.Tensor, down: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    wide, high = ((boxes[..., k + 2] - boxes[..., k])[..., None] / 2 for k in range(2))
    return (right.abs() < wide) & (down.abs() < high)


def inside_any(cells: torch.Tensor, boxes: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    """(B, P) whether each position lies in one of the boxes (B, M, 4 or 5) for which `which` (B, M) is true."""
    return (_inside(*_from_center(cells, boxes), boxes) & which[..., None]).any(1)
