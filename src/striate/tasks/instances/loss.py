"""How wrong masks are, beside scores and boxes."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.data.annotations.instances import objects_of
from striate.tasks.detect.assign import Assigned
from striate.tasks.detect.head import BOX
from striate.tasks.detect.loss import loss_and_assignment
from striate.tasks.instances.box_masks import points_in
from striate.tasks.instances.head import mask_logits, parts_of

_LEARNED = 64
"""So many masks of an image are learned from in a step, those with the best boxes; each counts for its share of the
objects."""
_MASK_WEIGHT = 1.0


def instance_loss(outputs: torch.Tensor, maps: torch.Tensor, count: int) -> torch.Tensor:
    """Scalar sum, of outputs for `count` classes and targets (N, H, W): that of the detector, and of masks the mean
    cross-entropy of their points and 1 − Dice (Milletari et al., "V-Net", 2016)."""
    parts = parts_of(outputs, count)
    objects, values = objects_of(maps, count)
    boxed, found = loss_and_assignment(parts.rows, objects, count)
    places, share = _learned(found, values.shape[1])
    wanted = values.gather(1, found.objects.gather(1, places))
    boxes = parts.rows[..., count : count + BOX].detach().gather(1, places[..., None].expand(-1, -1, 4))
    boxes = boxes.clamp(-1e4, 1e4)
    weights = parts.weights.gather(1, places[..., None].expand(-1, -1, parts.weights.shape[2]))
    logits = mask_logits(parts.features, weights, boxes, (maps.shape[1], maps.shape[2])).flatten(2)
    truth = _under(maps, boxes).flatten(2) == wanted[..., None]
    truth = truth.float()
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(2)
    said = logits.sigmoid()
    dice = (2 * (said * truth).sum(2) + 1) / (said.square().sum(2) + truth.sum(2) + 1)
    return boxed + _MASK_WEIGHT * ((each + 1 - dice) * share).sum()


@torch.no_grad()
def _learned(found: Assigned, objects: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, n) positions whose masks are learned, the best one of each object first, and how much each counts: together
    as much as there are objects that a position learns."""
    best = torch.zeros(len(found.learns), objects, device=found.learns.device)
    quality = found.quality * found.learns
    best.scatter_reduce_(1, found.objects, quality, "amax")
    first = found.learns & (quality >= best.gather(1, found.objects)) & (quality > 0)
    rank = quality + first.float()
    chosen = rank.topk(min(_LEARNED, rank.shape[1]), dim=1)
    counts = (chosen.values > 0).float()
    counts *= (best > 0).sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
    return chosen.indices, counts


def _under(maps: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """(B, n, SIDE, SIDE) values of targets (B, H, W) at the points of the grids over boxes (B, n, 4); 0 beside the
    image."""
    images, count = boxes.shape[:2]
    points = points_in(boxes.reshape(-1, 4)).floor().long()
    x, y = points[..., 0], points[..., 1]
    inside = (x >= 0) & (y >= 0) & (x < maps.shape[2]) & (y < maps.shape[1])
    image = torch.arange(images, device=maps.device).repeat_interleave(count)[:, None, None]
    values = maps[image, y.clamp(0, maps.shape[1] - 1), x.clamp(0, maps.shape[2] - 1)] * inside
    return values.view(images, count, *values.shape[1:])
