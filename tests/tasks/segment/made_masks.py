"""Small images of disks and squares, with masks, as folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

NETWORK = "conv(8,3,pad=1) bn relu conv(8,3,pad=1) bn relu conv(3,1)"
PLAIN = {"execution.plan": "plain"}


def make_shapes(root: Path, count: int, side: int = 16) -> Path:
    """`images/` and `masks/`: a red disk (mask value 1) and a blue square (2) on gray noise."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    y, x = np.mgrid[:side, :side]
    for number in range(count):
        image = rng.normal(120, 12, (side, side, 3))
        mask = np.zeros((side, side), np.uint8)
        for kind, color in ((1, (200, 60, 60)), (2, (60, 60, 200))):
            row, column = rng.integers(3, side - 3, 2)
            inside = np.hypot(y - row, x - column) < 3.5
            if kind == 2:
                inside = np.maximum(abs(y - row), abs(x - column)) < 3
            image[inside] = rng.normal(color, 12, (int(inside.sum()), 3))
            mask[inside] = kind
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(root / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number:03}.png")
    return root
