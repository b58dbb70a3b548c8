"""The loss of scores and boxes."""

from __future__ import annotations

import torch
from torch.nn import functional

from striate.data.annotations.boxes import CLASS, CROWD
from striate.tasks.detect.assign import Assigned, assign, inside_any
from striate.tasks.detect.head import parts_of
from striate.tasks.detect.overlap import generalized_iou
from striate.tasks.detect.rotated import boxes_of, ellipses, probiou_distance, with_angle

_BOX_WEIGHT = 2.0


def detection_loss(outputs: torch.Tensor, targets: torch.Tensor, count: int, *, rotated: bool = False) -> torch.Tensor:
    """Scalar sum: `loss_and_assignment`."""
    return loss_and_assignment(outputs, targets, count, rotated=rotated)[0]


def loss_and_assignment(
    outputs: torch.Tensor, targets: torch.Tensor, count: int, *, rotated: bool = False
) -> tuple[torch.Tensor, Assigned]:
    """The loss, a scalar sum, of outputs (N, P, K + 7) for `count` classes K, and which positions learn which object.

    The loss is the quality focal loss of all scores, and 1 − GIoU of the boxes of positions that learn an object,
    weighted by their quality; for `rotated` boxes (N, P, K + 8), 1 − ProbIoU. Positions in crowds do not count.
    Li et al., "Generalized focal loss", NeurIPS 2020; Rezatofighi et al., "Generalized intersection over union", CVPR
    2019.
    """
    logits, boxes, cells = (part.float() for part in parts_of(outputs, count, rotated=rotated))
    cells = cells[0].detach()
    most = int((targets[..., CLASS] >= 0).sum(1).max()) if len(targets) else 0
    objects = _first(targets, max(1, most))
    there = objects[..., CLASS] >= 0
    crowd = there & (objects[..., CROWD] > 0)
    edges = with_angle(objects) if rotated else objects[..., :4]
    found = assign(
        logits.detach().sigmoid(),
        boxes_of(boxes.detach()) if rotated else boxes.detach(),
        cells,
        edges,
        objects[..., CLASS].clamp(min=0).long(),
        there & ~crowd,
    )
    wanted = functional.one_hot(found.labels, count) * found.quality[..., None]
    score = logits.sigmoid()
    focus = (wanted - score.detach()).square()
    each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none") * focus
    blind = inside_any(cells, edges, crowd) & ~found.learns
    scores = (each.sum(2) * ~blind).sum()
    if rotated:
        wrong = probiou_distance(boxes[found.learns], ellipses(found.boxes[found.learns])) * found.quality[found.learns]
    else:
        wrong = (1 - generalized_iou(boxes, found.boxes)) * found.quality * found.learns
    return scores + _BOX_WEIGHT * wrong.sum(), found


def _first(targets: torch.Tensor, count: int) -> torch.Tensor:
    """The targets (B, count, …), objects first, with as many rows as the fullest image has objects."""
    order = torch.sort((targets[..., CLASS] < 0).byte(), dim=1, stable=True).indices[:, :count]
    return targets.gather(1, order[..., None].expand(-1, -1, targets.shape[2]))
