"""Find vehicles on a road from above: made images, a table of boxes, a detector, and what it finds.

Command: python examples/detection.py [FOLDER]. The images are made here; each vehicle's box is known exactly.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT, WIDTH, HEIGHT = 300, 192, 128
KINDS = {"car": (22, 11), "truck": (40, 14), "motorcycle": (11, 5)}


def scene(rng: np.random.Generator) -> tuple[Image.Image, list[tuple[float, float, float, float, str]]]:
    """A picture of a road with three lanes, and the boxes of its vehicles: left, top, right, bottom, kind."""
    picture = Image.fromarray(rng.normal((96, 112, 84), 12, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 32, WIDTH, 98), fill=(84, 84, 88))
    for line in (54, 76):
        for left in range(0, WIDTH, 24):
            draw.rectangle((left, line, left + 11, line + 1), fill=(210, 210, 200))
    boxes = []
    for lane in (43, 65, 87):
        left = rng.uniform(-10, 40)
        while left < WIDTH - 8:
            kind = str(rng.choice(list(KINDS), p=[0.6, 0.2, 0.2]))
            long, wide = (side * rng.uniform(0.9, 1.15) for side in KINDS[kind])
            middle = lane + rng.uniform(-3, 3)
            box = (left, middle - wide / 2, left + long, middle + wide / 2)
            paint = tuple(rng.integers(30, 256, 3).tolist())
            draw.rectangle(box, fill=paint, outline=(20, 20, 20))
            glass = left + long * (0.7 if kind != "truck" else 0.85)
            draw.rectangle((glass, box[1] + 2, glass + long * 0.1, box[3] - 2), fill=(30, 40, 60))
            seen = (max(0.0, box[0]), box[1], min(float(WIDTH), box[2]), box[3])
            if (seen[2] - seen[0]) > 0.3 * long:
                boxes.append((*seen, kind))
            left += long + rng.uniform(6, 90)
    return picture, boxes


def write(folder: Path) -> Path:
    """Images and their table."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["path,x_min,y_min,x_max,y_max,label"]
    for number in range(COUNT):
        picture, boxes = scene(rng)
        name = f"images/{number:03}.png"
        picture.save(folder / name)
        lines += [f"{name},{','.join(f'{edge:.1f}' for edge in box[:4])},{box[4]}" for box in boxes]
        lines += [] if boxes else [f"{name},,,,,"]  # a road without vehicles: learned from as background
    table = folder / "boxes.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def main(folder: Path) -> None:
    """Make the data, train for two minutes, and say what is found on one picture."""
    table = write(folder)
    run = striate.train(table, minutes=2, out=folder / "run")
    test = run.metrics["test"]
    print(f"mAP at IoU 0.5: {100 * test['map50']:.1f} %, over all IoUs {100 * test['map']:.1f} %, n = {test['n']}")
    found = run.load().predict(str(folder / "images" / "000.png"))
    for box in found.fields["boxes"]:
        edges = ", ".join(f"{edge:.0f}" for edge in box["box"])
        print(f"{box['label']:<12}{100 * box['probability']:3.0f} %  {edges}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "vehicles"))
