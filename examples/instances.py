"""Tell cells apart that touch: made images, masks that number the cells, a network, and how many it finds.

Command: python examples/instances.py [FOLDER]. The images are made here; the mask of each cell is known exactly, and
where two overlap the one in front is seen.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import striate

COUNT, SIDE = 300, 96


def cells(rng: np.random.Generator) -> tuple[Image.Image, Image.Image]:
    """An image of cells, and its mask: 0 for the background, 1, 2, … for each cell."""
    y, x = np.mgrid[:SIDE, :SIDE]
    light, mask = rng.normal(40, 8, (SIDE, SIDE)), np.zeros((SIDE, SIDE), np.uint8)
    for number in range(1, int(rng.integers(4, 12))):
        (row, column), (long, wide) = rng.uniform(8, SIDE - 8, 2), rng.uniform(6, 12, 2)
        turn = rng.uniform(0, np.pi)
        along = (x - column) * np.cos(turn) + (y - row) * np.sin(turn)
        across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        far = np.hypot(along / long, across / wide)
        inside, bright = far <= 1, rng.uniform(90, 160)
        light[inside] = (bright * (1.2 - 0.6 * far) + rng.normal(0, 8, far.shape))[inside]  # darker at the rim
        mask[inside] = number
    return Image.fromarray(light.clip(0, 255).astype(np.uint8)), Image.fromarray(mask)


def write(folder: Path) -> Path:
    """Images, and masks of the same names."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(COUNT):
        image, mask = cells(rng)
        image.save(folder / "images" / f"{number:03}.png")
        mask.save(folder / "masks" / f"{number:03}.png")
    return folder


def main() -> None:
    """Make the data, train for two minutes, and count the cells of one new image."""
    folder = write(Path(sys.argv[1] if len(sys.argv) > 1 else "cells"))
    run = striate.train(folder, task="instances", minutes=2)
    test = run.metrics["test"]
    print(f"mask mAP at IoU 0.5: {100 * test['mask_map50']:.1f} %, over all IoUs {100 * test['mask_map']:.1f} %")
    image, mask = cells(np.random.default_rng(1))
    found = [box for box in run.load().predict(image).fields["boxes"] if box["probability"] >= test["threshold"]]
    seen = len(np.unique(np.asarray(mask))) - 1
    print(f"in a new image: {len(found)} cells ({seen} in truth)")


if __name__ == "__main__":
    main()
