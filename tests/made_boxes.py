"""Small images with boxes, written in each layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("disk", "square")
Boxes = list[tuple[int, int, int, int, str]]


def made_images(count: int = 24, size: tuple[int, int] = (32, 40), seed: int = 0) -> list[tuple[np.ndarray, Boxes]]:
    """Disks and squares on noise: images (H, W, 3) and their boxes left, top, right, bottom, class; every sixth image
    has none."""
    random, (height, width) = np.random.default_rng(seed), size
    y, x = np.mgrid[:height, :width]
    made = []
    for number in range(count):
        image, boxes = random.integers(40, 90, (height, width, 3)), []
        for place in range(0 if number % 6 == 5 else int(random.integers(1, 3))):
            radius = int(random.integers(4, 7))
            cx = int(random.integers(radius, width // 2 - radius)) + place * width // 2
            cy = int(random.integers(radius, height - radius))
            kind = int(random.integers(2))
            across, down = x + 0.5 - cx, y + 0.5 - cy
            inside = np.hypot(across, down) <= radius if kind == 0 else np.maximum(abs(across), abs(down)) <= radius
            image[inside] += 130 if kind == 0 else 70
            boxes.append((cx - radius, cy - radius, cx + radius, cy + radius, CLASSES[kind]))
        made.append((image.astype(np.uint8), boxes))
    return made


def save(image: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def split_of(number: int) -> str:
    return ("train", "train", "val", "test")[number % 4]


def write_voc(folder: Path, made: list[tuple[np.ndarray, Boxes]]) -> Path:
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for number, (image, boxes) in enumerate(made):
        save(image, folder / "JPEGImages" / f"{number:03}.png")
        objects = "".join(
            f"  <object>\n    <name>{name}</name>\n    <bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>\n  </object>\n"
            for x0, y0, x1, y1, name in boxes
        )
        size = f"<size><width>{image.shape[1]}</width><height>{image.shape[0]}</height><depth>3</depth></size>"
        (folder / "Annotations").mkdir(exist_ok=True)
        text = f"<annotation>\n  <filename>{number:03}.png</filename>\n  {size}\n{objects}</annotation>\n"
        (folder / "Annotations" / f"{number:03}.xml").write_text(text)
        lists[split_of(number)].append(f"{number:03}")
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    for name, stems in lists.items():
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(stems) + "\n")
    return folder


def write_coco(folder: Path, made: list[tuple[np.ndarray, Boxes]], *, crowd: bool = False) -> Path:
    documents: dict[str, dict[str, list]] = {}
    for number, (image, boxes) in enumerate(made):
        split = split_of(number)
        save(image, folder / split / f"{number:03}.png")
        document = documents.setdefault(split, {"images": [], "annotations": [], "categories": []})
        document["categories"] = [{"id": k + 7, "name": name} for k, name in enumerate(CLASSES)]
        height, width = image.shape[:2]
        document["images"].append({"id": number, "file_name": f"{number:03}.png", "height": height, "width": width})
        for place, (x0, y0, x1, y1, name) in enumerate(boxes):
            entry = {"id": 100 * number + place, "image_id": number, "category_id": CLASSES.index(name) + 7}
            entry |= {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}
            document["annotations"].append(entry | {"iscrowd": int(crowd and place == 1)})
    (folder / "annotations").mkdir()
    for split, document in documents.items():
        (folder / "annotations" / f"instances_{split}.json").write_text(json.dumps(document))
    return folder


def write_yolo(folder: Path, made: list[tuple[np.ndarray, Boxes]]) -> Path:
    for number, (image, boxes) in enumerate(made):
        height, width = image.shape[:2]
        save(image, folder / "images" / split_of(number) / f"{number:03}.png")
        lines = [
            f"{CLASSES.index(name)} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} "
            f"{(x1 - x0) / width} {(y1 - y0) / height}\n"
            for x0, y0, x1, y1, name in boxes
        ]
        labels = folder / "labels" / split_of(number) / f"{number:03}.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        if boxes or number % 4:  # of images without objects some have an empty file, some none
            labels.write_text("".join(lines))
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [disk, square]\n")
    return folder


def write_table(folder: Path, made: list[tuple[np.ndarray, Boxes]]) -> Path:
    rows = ["path,x_min,y_min,x_max,y_max,label,split"]
    for number, (image, boxes) in enumerate(made):
        save(image, folder / f"{number:03}.png")
        rows += [f"{number:03}.png,{x0},{y0},{x1},{y1},{name},{split_of(number)}" for x0, y0, x1, y1, name in boxes]
        rows += [] if boxes else [f"{number:03}.png,,,,,,{split_of(number)}"]
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n")
    return folder / "boxes.csv"


LAYOUTS = {"voc": write_voc, "coco": write_coco, "yolo": write_yolo, "csv": write_table}
