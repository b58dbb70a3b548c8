"""Handwritten digits, each with a marker that alone decides the class, and a small network trained on them."""

from __future__ import annotations

from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import nn

SIDE, MARKER = 32, 5
_DRAWN = (("..#..", "..#..", "#####", "..#..", "..#.."), ("#####", "#...#", "#...#", "#...#", "#####"))
_MARKERS = torch.tensor([[[float(letter == "#") for letter in row] for row in rows] for rows in _DRAWN])


def marked_digits(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, list[tuple[int, int]]]:
    """(N, 1, 32, 32) normalized images, (N,) classes, and where each marker begins."""
    draw = torch.Generator().manual_seed(seed)
    digits = torch.tensor(load_digits().images, dtype=torch.float32)[:, None] / 16
    chosen = digits[torch.randint(len(digits), (count,), generator=draw)]
    x = nn.functional.interpolate(chosen, scale_factor=4, mode="bilinear") * 0.6
    y = torch.randint(2, (count,), generator=draw)
    at = [(int(row), int(column)) for row, column in torch.randint(SIDE - MARKER + 1, (count, 2), generator=draw)]
    for image, label, (row, column) in zip(x, y.tolist(), at, strict=True):
        image[0, row : row + MARKER, column : column + MARKER] = _MARKERS[label]
    return (x - 0.25) / 0.3, y, at


@cache
def trained_on_markers(seed: int, steps: int = 100) -> nn.Module:
    """Two convolutions and the highest value of each map; the same network each time: it is to be left as it is."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = nn.Sequential(
            nn.Conv2d(1, 12, 5, padding=2), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 2),
        )  # fmt: skip
        x, y, _ = marked_digits(1500, 1)
        optimizer = torch.optim.Adam(module.parameters(), 0.01)
        for _ in range(steps):
            batch = torch.randint(len(x), (64,))
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x[batch]), y[batch]).backward()
            optimizer.step()
    return module.eval().requires_grad_(True)
