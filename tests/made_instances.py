"""Small images of disks that touch, whose masks are known, as numbered masks and as COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from made_boxes import save, split_of

SIZE = (32, 48)


def made_disks(count: int = 12, most: int = 4, size: tuple[int, int] = SIZE, seed: int = 0) -> list[Any]:
    """Images (H, W, 3) and (H, W) uint16 numbers of their disks from 1, two of which touch; one of twelve has none."""
    random, made = np.random.default_rng(seed), []
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    for number in range(count):
        image, numbers = random.integers(20, 60, (*size, 3)), np.zeros(size, np.uint16)
        centers: list[tuple[float, float, float]] = []
        for _ in range(0 if number % 12 == 11 else int(random.integers(2, most + 1))):
            radius = float(random.integers(4, 7))
            beside = (centers[-1][0] + centers[-1][2] + radius, centers[-1][1]) if len(centers) == 1 else None
            place = beside or (float(random.uniform(7, size[1] - 7)), float(random.uniform(7, size[0] - 7)))
            if any(np.hypot(place[0] - a, place[1] - b) < radius + r - 0.5 for a, b, r in centers):
                continue
            centers.append((*place, radius))
            inside = (np.hypot(x - place[0], y - place[1]) <= radius) & (numbers == 0)
            numbers[inside] = len(centers)
            image[inside] += 120
        made.append((image.astype(np.uint8), numbers))
    return made


def write_numbered(folder: Path, made: list[Any]) -> Path:
    for number, (image, numbers) in enumerate(made):
        save(image, folder / "images" / f"{number:03}.png")
        save(numbers, folder / "masks" / f"{number:03}.png")
    return folder


def runs_of(mask: np.ndarray) -> list[int]:
    """Lengths of runs outside and inside in turns, column by column, counted one pixel after the other."""
    runs, last = [0], False
    for value in mask.ravel(order="F").tolist():
        if bool(value) != last:
            runs.append(0)
            last = bool(value)
        runs[-1] += 1
    return runs


def write_coco_masks(folder: Path, made: list[Any], form: str = "runs") -> Path:
    """`form`: runs, text (compressed by pycocotools), or polygons (the box of each object, with five corners)."""
    from pycocotools import mask as codes

    images, entries = [], []
    for number, (image, numbers) in enumerate(made):
        name = f"{number:03}.png"
        save(image, folder / split_of(number) / name)
        height, width = numbers.shape
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        for value in range(1, int(numbers.max()) + 1):
            mask = numbers == value
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x0, y0, x1, y1 = (int(k) for k in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
            outline: Any = {"size": [height, width], "counts": runs_of(mask)}
            if form == "text":
                code = codes.encode(np.asfortranarray(mask.astype(np.uint8)))
                outline = {"size": [height, width], "counts": code["counts"].decode()}
            elif form == "polygons":
                outline = [[x0, y0, (x0 + x1) / 2, y0, x1, y0, x1, y1, x0, y1]]
            box = [x0, y0, x1 - x0, y1 - y0]
            entry = {"id": len(entries) + 1, "image_id": number, "category_id": 7, "bbox": box, "iscrowd": 0}
            entries.append(entry | {"area": int(mask.sum()), "segmentation": outline})
    document = {"images": images, "annotations": entries, "categories": [{"id": 7, "name": "cell"}]}
    folder.mkdir(exist_ok=True)
    (folder / "instances.json").write_text(json.dumps(document))
    return folder
