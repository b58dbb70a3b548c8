"""Outputs of an exported instance segmentation: `decode.instances` and `grouping.grouped` by operations that can be
traced, for all images of a batch at once.

Loops whose number of iterations depends on the image are operations of their own (`layers.looping`): labels are
propagated over a center until nothing changes, the nearest center is searched in columns of growing distance, groups
absorb smaller ones by falling size, and each object's mask is resampled to its grid.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from striate.data.annotations.boxes import CLASS
from striate.layers.looping import repeat_while
from striate.tasks.detect.average_precision import SCORE
from striate.tasks.exported import Frame
from striate.tasks.instances.box_masks import MARGIN, SIDE, packed
from striate.tasks.instances.decode import inside, masks_of
from striate.tasks.instances.grouping import FEWEST, LIKELY, NEAR, SMALLEST, STEPS, places

OUTPUTS = ("boxes", "scores", "labels", "masks")
_GROUPS = 1024
"""Largest number of groups of pixels, the largest ones first."""
_NOT_NEAR_BORDER = 0.002
"""Detections whose scores differ from the threshold by less than this may be on either side of it."""
_SAME_MASK = 0.95
"""IoU from which two masks are the same: for single pixels, rounding decides the nearest center."""


def exported_instances(
    outputs: torch.Tensor, count: int, most: int, typical: float, frame: Frame
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """From outputs (N, K + 2, H, W) for `count` classes: boxes (N, M, 4) in pixels of the picture, scores (N, M) by
    falling score, labels (N, M) int64 (−1 for padding), and masks (N, M, SIDE, SIDE): the shares, 0 to 1, of the cells
    of a grid over each box that is `MARGIN` times as large."""
    shares = outputs[:, :count].float().sigmoid()
    likely = torch.nan_to_num(shares.amax(1))
    offset = torch.nan_to_num(outputs[:, count:].float()) * typical
    group, area = _grouped(likely, offset)
    sums = torch.zeros(outputs.shape[0], count, area.shape[1])
    sums = sums.scatter_add(2, group[:, None].expand(-1, count, -1), shares.flatten(2))
    means = sums / area.clamp(min=1)[:, None]
    large = area >= SMALLEST * (2 * typical) ** 2
    score = means.amax(1) * _agreement(group, area, offset)
    scores, order = torch.where(large, score, -1.0)[:, 1:].topk(min(most, area.shape[1] - 1), dim=1)
    there, order = scores >= 0, order + 1
    kinds = means.argmax(1).gather(1, order)
    boxes, masks = _under_grids(group.view_as(likely), (likely * (0.5 / LIKELY)).clamp(max=1), order, there)
    ends = torch.cat([frame.in_picture(boxes[..., :2]), frame.in_picture(boxes[..., 2:])], 2) * there[..., None]
    return ends, scores.clamp(min=0), torch.where(there, kinds, -1), masks * there[..., None, None]


def _grouped(likely: torch.Tensor, offset: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, H · W) the number of the group of each pixel, by falling size before groups are merged, 0 for none; and (N,
    G) the number of pixels of each group."""
    height, width = likely.shape[1:]
    within = (likely >= LIKELY).flatten(1)
    ends = _followed(offset)
    column = ends[:, 0].clamp(0, width - 1).long().flatten(1)
    row = ends[:, 1].clamp(0, height - 1).long().flatten(1)
    end = row * width + column
    met = torch.zeros_like(likely).flatten(1).scatter_add(1, end, within.float()).view_as(likely)
    around = functional.conv2d(met[:, None], torch.ones(1, 1, 3, 3), padding=1)[:, 0]
    own = _nearest_center(_labeled(around > FEWEST - 0.5), met > 0).flatten(1).long().gather(1, end) * within
    # The largest groups, by falling size; number 0 is for pixels in no group.
    area = torch.zeros(own.shape[0], height * width + 1).scatter_add(1, own, within.float())
    area = area * (torch.arange(height * width + 1) > 0)
    count = min(_GROUPS, height * width)
    largest, ids = area.topk(count, dim=1)
    numbers = torch.arange(1, count + 1)[None] * (largest > 0)
    slot = torch.zeros_like(area, dtype=torch.int64).scatter(1, ids, numbers).gather(1, own)
    totals = [
        torch.zeros(own.shape[0], count + 1).scatter_add(1, slot, part.flatten(1) * within)[:, 1:]
        for part in ends.unbind(1)
    ]
    middle = torch.stack(totals, 2) / largest.clamp(min=1)[..., None]
    becomes = functional.pad(_merged(largest, middle) + 1, (1, 0))
    group = becomes.gather(1, slot)
    sizes = torch.zeros(own.shape[0], count + 1).scatter_add(1, group, (slot > 0).float())
    return group, sizes * (torch.arange(count + 1) > 0)


def _agreement(group: torch.Tensor, area: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """(N, G) `grouping.agreement` of the groups (N, H · W), which have `area` pixels each."""
    here = places(offset.shape[2], offset.shape[3], offset.device)
    count = area.clamp(min=1)

    def mean(values: torch.Tensor) -> torch.Tensor:
        """(N, G, 2) means of values (N, 2, H · W) over the groups."""
        totals = [torch.zeros_like(area).scatter_add(1, group, part) for part in values.unbind(1)]
        return torch.stack(totals, 2) / count[..., None]

    middle = here.flatten(1).expand(offset.shape[0], -1, -1)
    named = middle + offset.flatten(2)
    centers = mean(named)
    apart = torch.stack([part.gather(1, group) for part in centers.unbind(2)], 1)
    wrong = mean((named - apart).square()).sum(2).sqrt() + (centers - mean(middle)).square().sum(2).sqrt()
    return torch.exp(-wrong / (count / math.pi).sqrt())


def _followed(offset: torch.Tensor) -> torch.Tensor:
    """(N, 2, H, W) final positions of all pixels: `grouping._followed`."""
    height, width = offset.shape[2:]
    at, scale = places(height, width, offset.device) + offset, torch.tensor([2 / width, 2 / height])
    for _ in range(STEPS):
        grid = at.permute(0, 2, 3, 1) * scale - 1
        at = at + functional.grid_sample(offset, grid, padding_mode="border", align_corners=False)
    return at


def _labeled(centers: torch.Tensor) -> torch.Tensor:
    """(N, H, W) float32 connected components of `centers` (N, H, W), also connected at corners: for each pixel the
    highest number, from 1, of a pixel of its component; 0 elsewhere."""
    height, width = centers.shape[1:]
    numbers = torch.arange(1.0, height * width + 1).view(height, width) * centers

    def changes(now: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        return (now != before).any()

    def propagate(now: torch.Tensor, before: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        del before
        return functional.max_pool2d(now[:, None], 3, 1, 1)[:, 0] * centers, now.clone()

    return repeat_while(changes, propagate, (numbers, numbers - 1))[0]


def _nearest_center(labels: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """(N, H, W) the label of the nearest labeled pixel, exact where `wanted`; 0 where no pixel is labeled.

    The search begins in the pixel's own column and goes on in columns farther away, until none could be nearer.
    """
    width, far = labels.shape[2], float(labels.shape[1] + labels.shape[2]) ** 2
    squared, label = _nearest_in_columns(labels, far)
    columns = torch.arange(width)

    def could_be_nearer(step: torch.Tensor, best: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        del found
        return (step < width) & ((best > step * step) & wanted).any()

    def widen(step: torch.Tensor, best: torch.Tensor, found: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for side in (columns - step, columns + step):
            there, at = (side >= 0) & (side < width), side.clamp(0, width - 1)
            distance = torch.where(there, squared.index_select(2, at) + step * step, 2 * far)
            nearer = distance < best
            best, found = torch.where(nearer, distance, best), torch.where(nearer, label.index_select(2, at), found)
        return step + 1, best, found

    begin = torch.ones((), dtype=torch.int64), squared.clone(), label.clone()
    return repeat_while(could_be_nearer, widen, begin)[2]


def _nearest_in_columns(labels: torch.Tensor, far: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, H, W) the squared distance to the nearest labeled pixel of the same column, and its label."""
    height = labels.shape[1]
    rows = torch.arange(float(height))[:, None]
    found = []
    for sign in (1, -1):  # the nearest one above, and the nearest one below
        last = torch.where(labels > 0, sign * rows, -far)
        step = 1
        while step < height:
            pad = (0, 0, step, 0) if sign > 0 else (0, 0, 0, step)
            shifted = functional.pad(last, pad, value=-far)
            last = torch.maximum(last, shifted[:, :height] if sign > 0 else shifted[:, step:])
            step *= 2
        found.append(torch.where(last > -far, sign * last, 3 * far))
    nearest = torch.where((rows - found[0]).abs() <= (found[1] - rows).abs(), found[0], found[1])
    there = nearest < 2 * far
    label = labels.gather(1, nearest.clamp(0, height - 1).long()) * there
    return torch.where(there, (nearest - rows).square(), far), label


def _merged(area: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
    """(N, G) the position of the group that absorbs each group, from groups by falling `area` (N, G) with centers
    `middle` (N, G, 2): `grouping._merged`."""
    slots = torch.arange(area.shape[1])

    def some_left(turn: torch.Tensor, taken: torch.Tensor, becomes: torch.Tensor) -> torch.Tensor:
        del taken, becomes
        return (turn < area.shape[1]) & (area * (slots >= turn) > 0).any()

    def take(turn: torch.Tensor, taken: torch.Tensor, becomes: torch.Tensor) -> tuple[torch.Tensor, ...]:
        own = (slots == turn).float()
        here, size = (middle * own[:, None]).sum(1, keepdim=True), (area * own).sum(1, keepdim=True)
        radius = ((area + size) / math.pi).sqrt().clamp(min=1e-9)
        apart = torch.where(taken > 0, (middle - here).square().sum(2).sqrt() / radius, math.inf)
        least, best = apart.min(1, keepdim=True)
        joins = least < NEAR
        becomes = torch.where((slots == turn) & joins, best, becomes)
        return turn + 1, torch.where((slots == turn) & ~joins & (size > 0), 1.0, taken), becomes

    begin = torch.zeros((), dtype=torch.int64), torch.zeros_like(area), slots.expand(area.shape).clone()
    return repeat_while(some_left, take, begin)[2]


def _under_grids(
    numbers: torch.Tensor, likely: torch.Tensor, order: torch.Tensor, there: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes (N, M, 4) of the objects `order` (N, M) in `numbers` (N, H, W), and their masks (N, M, SIDE, SIDE):
    `box_masks.gathered`."""
    height, width = numbers.shape[1:]
    turns, most = torch.arange(order.shape[1]), there.sum(1).max()

    def some_left(turn: torch.Tensor, boxes: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        del boxes, masks
        return turn < most

    def lay(turn: torch.Tensor, boxes: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        number = order.index_select(1, turn.view(1))
        own = (numbers == number[..., None]).float()
        top, bottom = _ends(own.amax(2), height)
        left, right = _ends(own.amax(1), width)
        down, across = _grid_weights(top, bottom, height), _grid_weights(left, right, width)
        mask = down @ (own * likely) @ across.transpose(1, 2)
        box = torch.cat([left, top, right, bottom], 1)
        here = turns == turn
        boxes = torch.where(here[None, :, None], box[:, None], boxes)
        return turn + 1, boxes, torch.where(here[None, :, None, None], mask[:, None], masks)

    empty = torch.zeros_like(order, dtype=torch.float32)
    begin = torch.zeros((), dtype=torch.int64), _zeros(empty, (4,)), _zeros(empty, (SIDE, SIDE))
    _, boxes, masks = repeat_while(some_left, lay, begin)
    return boxes, masks


def _zeros(values: torch.Tensor, more: tuple[int, ...]) -> torch.Tensor:
    """Zeros (N, M, *more)."""
    return values.view(*values.shape, *(1 for _ in more)) * torch.zeros(more)


def _ends(there: torch.Tensor, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1) the first and the last position at which `there` (N, side) is true."""
    at = torch.arange(float(side))
    first = torch.where(there > 0, at, float(side)).amin(1, keepdim=True)
    return first, torch.where(there > 0, at + 1, 0.0).amax(1, keepdim=True)


def _grid_weights(low: torch.Tensor, high: torch.Tensor, side: int) -> torch.Tensor:
    """(N, SIDE, side) weights of the pixels around each cell of the grid over a box: pixels of the box, and one more at
    each end."""
    center, half = (low + high) / 2, (high - low).clamp(min=1e-3) * (MARGIN / 2)
    step = 2 * half / SIDE
    points = (center - half + (torch.arange(SIDE) + 0.5) * step)[..., None]
    pixels = torch.arange(-1.0, side + 1) + 0.5
    near = ((pixels > low - 1) & (pixels < high + 1))[:, None]
    weights = (1 - (points - pixels).abs() / step.clamp(min=1)[..., None]).clamp(min=0) * near
    weights = weights / weights.sum(2, keepdim=True).clamp(min=1e-9)
    return weights[..., 1:-1]


def rows_of_arrays(arrays: Any) -> NDArray[np.float64]:
    """(N, M, WIDTH) rows in the form of `decode.instances`, in pixels of the picture."""
    boxes, scores, labels, masks = (np.asarray(part) for part in arrays)
    columns = packed(torch.from_numpy(masks)).numpy()
    return np.concatenate([boxes, labels[..., None], scores[..., None], columns], 2).astype(np.float64)


def disparity_of_instances(
    right: NDArray[Any], found: NDArray[Any], threshold: float, longest: float
) -> tuple[float, bool]:
    """The largest difference of scores of objects with the same masks, from the threshold on; and whether the same
    objects are found. `longest`: pixels of the longer side of the picture."""
    size = (int(longest), int(longest))
    right, found = (rows[(rows[:, CLASS] >= 0) & (rows[:, SCORE] > 0)] for rows in (right, found))
    worst, same = 0.0, True
    placed = [[_in_place(part, at, size) for part, at in masks_of(rows, size)] for rows in (right, found)]
    for rows, own, others, theirs in ((right, placed[0], found, placed[1]), (found, placed[1], right, placed[0])):
        for row, mask in zip(rows, own, strict=True):
            if row[SCORE] < threshold + _NOT_NEAR_BORDER:
                continue
            alike = [(_iou(mask, theirs[k]), k) for k in np.flatnonzero(others[:, CLASS] == row[CLASS])]
            iou, best = max(alike, default=(0.0, 0))
            same &= iou >= _SAME_MASK
            if iou == 1:
                worst = max(worst, abs(float(others[best, SCORE] - row[SCORE])))
    return worst, bool(same)


def _in_place(part: NDArray[np.float32], corner: tuple[int, int], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[corner[0] : corner[0] + part.shape[0], corner[1] : corner[1] + part.shape[1]] = inside(part)
    return mask


def _iou(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    union = int((one | other).sum())
    return 1.0 if not union else float((one & other).sum() / union)
