"""The baseline of detection, which ignores the image: the most frequent boxes, in every image."""

from __future__ import annotations

import numpy as np
import torch

from striate.data.annotations.boxes import ANGLE, CLASS
from striate.data.dataset import Dataset
from striate.tasks.baseline import Fitted, Method
from striate.tasks.detect.overlap import nms_mask, pairwise_iou
from striate.tasks.detect.rotated import rotated_iou, with_angle
from striate.tasks.task import Task

_CANDIDATES, _IMAGES, _KEPT = 300, 500, 100


def detect_methods(data: Dataset) -> tuple[Method, ...]:
    """The baseline, the same for all images."""
    del data
    what = "Predicts the same boxes in every image: those that match an object of their class most often in training."
    return (Method("commonest boxes", what, _commonest),)


def _commonest(data: Dataset, task: Task, seed: int) -> Fitted:
    random = np.random.default_rng(seed)
    train, test = data.splits["train"].targets.cpu(), data.splits["test"].targets
    some = train[torch.from_numpy(np.sort(random.permutation(len(train))[:_IMAGES]))]
    rotated = train.shape[2] > ANGLE
    edges, iou = (with_angle(some), rotated_iou) if rotated else (some[..., :4], pairwise_iou)
    rows = []
    for number in range(task.outputs):
        own = some[..., CLASS] == number
        boxes = edges[own]
        if not len(boxes):
            continue
        chosen = boxes[torch.from_numpy(random.permutation(len(boxes))[:_CANDIDATES])]
        others = torch.where(own[..., None], edges, 0.0)
        shares = iou(chosen.expand(len(others), -1, -1), others).amax(2) >= 0.5
        score = shares.float().mean(0)
        order = torch.argsort(score, descending=True, stable=True)
        kept = nms_mask(chosen[order][None], torch.zeros(1, len(order)), 0.5)[0]
        picked = order[kept]
        kind = torch.full((len(picked), 1), float(number))
        rows.append(torch.cat([chosen[picked, :4], kind, score[picked, None], chosen[picked, 4:]], 1))
    found = torch.cat(rows)
    found = found[torch.argsort(found[:, 5], descending=True, stable=True)][:_KEPT]
    every = torch.zeros(_KEPT, found.shape[1])
    every[:, CLASS] = -1
    every[: len(found)] = found
    return Fitted(every.expand(len(test), -1, -1).clone(), "none", len(some))
