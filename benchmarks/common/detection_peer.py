"""A plain FCOS in torch: Tian, Shen, Chen and He, "FCOS: fully convolutional one-stage object detection", ICCV 2019.

A residual network of basic blocks, a feature pyramid of strides 8 to 64, towers of four convolutions for all levels.
Each position inside of a box learns it on the level of its size, the smallest where boxes overlap; focal loss, −ln IoU,
and centerness. Random weights, fp32, whole pictures, mirrored half of the time, AdamW at a constant rate.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

STRIDES = (8, 16, 32, 64)
RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, float("inf")))
MOST, SUPPRESSED, LOWEST = 100, 0.6, 0.05


class Block(nn.Module):
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.one = nn.Sequential(nn.Conv2d(before, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels))
        self.two = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))
        self.beside = nn.Sequential(nn.Conv2d(before, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.two(functional.relu(self.one(x))) + self.beside(x))


class Fcos(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1)
        )
        widths = [width, 2 * width, 4 * width, 8 * width]
        befores = [width, *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.Sequential(Block(before, own, 1 + (k > 0)), Block(own, own, 1))
            for k, (before, own) in enumerate(zip(befores, widths, strict=True))
        )
        inner = 2 * width
        self.lateral = nn.ModuleList(nn.Conv2d(own, inner, 1) for own in widths[1:])
        self.smooth = nn.ModuleList(nn.Conv2d(inner, inner, 3, padding=1) for _ in widths[1:])
        self.coarser = nn.Conv2d(inner, inner, 3, 2, 1)
        self.towers = nn.ModuleList(
            nn.Sequential(
                *(
                    layer
                    for _ in range(4)
                    for layer in (nn.Conv2d(inner, inner, 3, padding=1), nn.GroupNorm(8, inner), nn.ReLU())
                )
            )
            for _ in range(2)
        )
        self.kinds = nn.Conv2d(inner, classes, 3, padding=1)
        self.boxes, self.centered = nn.Conv2d(inner, 4, 3, padding=1), nn.Conv2d(inner, 1, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(len(STRIDES)))
        nn.init.constant_(self.kinds.bias, -float(np.log(99)))  # a probability of 0.01, as in RetinaNet

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of all positions: logits (N, P, K), distances to the four edges in pixels (N, P, 4), logits of centerness
        (N, P), and the places themselves with their level (P, 3)."""
        maps, x = [], self.stem(x)
        for stage in self.stages:
            maps.append(x := stage(x))
        merged = [lateral(own) for lateral, own in zip(self.lateral, maps[1:], strict=True)]
        for k in (1, 0):
            merged[k] = merged[k] + functional.interpolate(merged[k + 1], merged[k].shape[2:], mode="nearest")
        levels = [smooth(own) for smooth, own in zip(self.smooth, merged, strict=True)]
        levels.append(self.coarser(levels[-1]))
        found: list[list[torch.Tensor]] = [[], [], [], []]
        for k, (level, stride) in enumerate(zip(levels, STRIDES, strict=True)):
            what, where = self.towers[0](level), self.towers[1](level)
            found[0].append(self.kinds(what).flatten(2).transpose(1, 2))
            found[1].append((self.boxes(where) * self.scales[k]).exp().flatten(2).transpose(1, 2) * stride)
            found[2].append(self.centered(where).flatten(1))
            y, x_ = torch.meshgrid(
                *(torch.arange(side) * stride + stride / 2 for side in level.shape[2:]), indexing="ij"
            )
            found[3].append(torch.stack([x_.flatten(), y.flatten(), torch.full((y.numel(),), float(k))], 1))
        kinds, boxes, centered = (torch.cat(part, 1) for part in found[:3])
        return kinds, boxes.clamp(max=4096), centered, torch.cat(found[3])


def assigned(places: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Which of the boxes (M, 5: edges, class) each place (P, 3) learns, −1 for none, and its distances (P, 4)."""
    if not len(boxes):
        return torch.full((len(places),), -1), torch.zeros(len(places), 4)
    x, y, level = (part[:, None] for part in places.unbind(1))
    left, top, right, bottom = boxes[:, :4].unbind(1)
    edges = torch.stack([x - left, y - top, right - x, bottom - y], 2)
    limits = torch.tensor(RANGES)[level.long().squeeze(1)]
    largest = edges.amax(2)
    fits = (edges.amin(2) > 0) & (largest > limits[:, :1]) & (largest <= limits[:, 1:])
    area = ((right - left) * (bottom - top)).expand(fits.shape)
    smallest, which = torch.where(fits, area, float("inf")).min(1)
    chosen = torch.where(smallest.isfinite(), which, -1)
    return chosen, edges[torch.arange(len(places)), which]


def loss_of(network: Fcos, x: torch.Tensor, boxes: list[torch.Tensor]) -> torch.Tensor:
    kinds, distances, centered, places = network(x)
    total, count = x.new_zeros(()), 0
    for logits, own, middle, truth in zip(kinds, distances, centered, boxes, strict=True):
        chosen, edges = assigned(places, truth)
        inside = chosen >= 0
        wanted = torch.zeros_like(logits)
        wanted[inside, truth[chosen[inside], 4].long()] = 1
        p = logits.sigmoid()
        each = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        focal = torch.where(wanted > 0, 0.25, 0.75) * (wanted - p).abs() ** 2 * each
        total, count = total + focal.sum(), count + int(inside.sum())
        if not inside.any():
            continue
        said, real = own[inside], edges[inside]
        common = torch.minimum(said, real)
        both = (common[:, 0] + common[:, 2]) * (common[:, 1] + common[:, 3])
        areas = [(part[:, 0] + part[:, 2]) * (part[:, 1] + part[:, 3]) for part in (said, real)]
        iou = both / (areas[0] + areas[1] - both).clamp(min=1e-6)
        pairs = [real[:, [0, 2]], real[:, [1, 3]]]
        center = torch.stack([pair.amin(1) / pair.amax(1) for pair in pairs]).prod(0).sqrt()
        total = total + (-iou.clamp(min=1e-6).log() * center).sum() / center.sum().clamp(min=1e-6) * len(center)
        total = total + functional.binary_cross_entropy_with_logits(middle[inside], center, reduction="sum")
    return total / max(count, 1)


def suppressed(rows: np.ndarray) -> np.ndarray:
    """Of detections (n, 6: edges, class, score) those that no better one of their class overlaps, the best first."""
    kept: list[np.ndarray] = []
    for row in rows[np.argsort(-rows[:, 5], kind="stable")]:
        if len(kept) == MOST:
            break
        same = np.array([other for other in kept if other[4] == row[4]]).reshape(-1, 6)
        across = np.minimum(same[:, 2], row[2]) - np.maximum(same[:, 0], row[0])
        down = np.minimum(same[:, 3], row[3]) - np.maximum(same[:, 1], row[1])
        both = across.clip(0) * down.clip(0)
        areas = (same[:, 2] - same[:, 0]) * (same[:, 3] - same[:, 1]) + (row[2] - row[0]) * (row[3] - row[1])
        if not (both > SUPPRESSED * (areas - both)).any():
            kept.append(row)
    return np.array(kept).reshape(-1, 6)


def detected(network: Fcos, x: torch.Tensor) -> np.ndarray:
    kinds, distances, centered, places = network(x)
    scores = (kinds[0].sigmoid() * centered[0].sigmoid()[:, None]).sqrt()
    place, kind = (kinds[0].sigmoid() > LOWEST).nonzero(as_tuple=True)
    best = scores[place, kind].topk(min(1000, len(place))).indices
    place, kind = place[best], kind[best]
    own, (px, py) = distances[0, place], places[place, :2].unbind(1)
    edges = torch.stack([px - own[:, 0], py - own[:, 1], px + own[:, 2], py + own[:, 3]], 1)
    rows = torch.cat([edges, kind[:, None].float(), scores[place, kind][:, None]], 1)
    return suppressed(rows.numpy().astype(np.float64))


def train_and_detect(
    images: list[Path],
    boxes: list[np.ndarray],
    asked: list[Path],
    classes: int,
    *,
    width: int,
    minutes: float,
    seed: int,
) -> tuple[list[np.ndarray], int, int]:
    """Detections (n, 6: edges in pixels, class, score) in the pictures `asked`, the network's parameters, and the steps
    that fitted into the minutes. `boxes` (M, 5: edges, class); all pictures have one size."""
    torch.manual_seed(seed)

    def read(file: Path) -> torch.Tensor:
        return torch.from_numpy(np.asarray(Image.open(file).convert("RGB")).transpose(2, 0, 1).copy())

    x = torch.stack([read(file) for file in images])
    truth = [torch.from_numpy(each).float().view(-1, 5) for each in boxes]
    mean, std = (getattr(x[::8].float(), what)((0, 2, 3))[:, None, None] for what in ("mean", "std"))
    network, order, batch, steps = Fcos(classes, width), [], 8, 0
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    began, wide = perf_counter(), x.shape[3]
    while perf_counter() - began < 60 * minutes:
        if len(order) < batch:
            order = torch.randperm(len(x)).tolist()
        rows, order = order[:batch], order[batch:]
        inputs, wanted = (x[rows].float() - mean) / std, [truth[row].clone() for row in rows]
        for k in (torch.rand(batch) < 0.5).nonzero().flatten().tolist():
            inputs[k] = inputs[k].flip(-1)
            wanted[k][:, [0, 2]] = wide - wanted[k][:, [2, 0]]
        loss = loss_of(network, inputs, wanted)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        steps += 1
    network.eval()
    with torch.inference_mode():
        found = [detected(network, ((read(file).float() - mean) / std)[None]) for file in asked]
    return found, sum(p.numel() for p in network.parameters()), steps
