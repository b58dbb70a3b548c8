"""Find vehicles from the air, and how they are turned: made pictures, a table of rotated boxes, a detector.

Command: python examples/rotated_vehicles.py [FOLDER [MINUTES]]. The pictures are made here, so each box and its angle
are known exactly: cars and trucks at any angle, on meadows and roads between houses and trees that are none.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT, SIDE, FINE = 300, 192, 3  # pictures; pixels of a side; drawn so many times larger, for smooth edges
KINDS = {"car": (23, 10), "truck": (38, 12)}
Box = tuple[float, float, float, float, str, float]


def turned(center: tuple[float, float], long: float, wide: float, angle: float) -> list[tuple[float, float]]:
    """The corners of a rectangle that is turned counterclockwise, in pixels of the fine picture."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    ends = ((-long, -wide), (long, -wide), (long, wide), (-long, wide))
    return [
        (FINE * (center[0] + (a * cos + b * sin) / 2), FINE * (center[1] + (b * cos - a * sin) / 2)) for a, b in ends
    ]


def ground(rng: np.random.Generator) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """Meadows, roads, houses and trees."""
    tint = np.array((92, 112, 80)) + rng.normal(0, 10, 3)
    coarse = tint + rng.normal(0, 9, (24, 24, 3))
    picture = Image.fromarray(coarse.clip(0, 255).astype(np.uint8)).resize((SIDE * FINE,) * 2, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(1, 3))):
        at, angle = tuple(rng.uniform(0, SIDE, 2)), rng.uniform(0, 180)
        draw.polygon(turned(at, 3 * SIDE, 34, angle), fill=(88, 88, 92))
        draw.polygon(turned(at, 3 * SIDE, 1.2, angle), fill=(214, 212, 200))
    for _ in range(int(rng.integers(0, 3))):
        at, sides, angle = tuple(rng.uniform(0, SIDE, 2)), rng.uniform(30, 55, 2), rng.uniform(0, 180)
        draw.polygon(turned(at, *sides, angle), fill=(150, 84, 66))
        draw.polygon(turned(at, sides[0], 1.5, angle), fill=(120, 64, 52))
    for _ in range(int(rng.integers(2, 9))):
        x, y, radius = *rng.uniform(0, SIDE * FINE, 2), rng.uniform(4, 9) * FINE
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(52, 84 + int(rng.integers(20)), 44))
    return picture, draw


def vehicle(draw: ImageDraw.ImageDraw, rng: np.random.Generator, kind: str, box: Box) -> None:
    """Shadow, body and windows."""
    left, top, right, bottom, _, angle = box
    x, y, long, wide = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    paint = tuple(rng.integers(40, 256, 3).tolist())
    draw.polygon(turned((x + 1.5, y + 1.5), long, wide, angle), fill=(48, 52, 46))
    draw.polygon(turned((x, y), long, wide, angle), fill=paint)
    ahead = np.array((np.cos(np.radians(angle)), -np.sin(np.radians(angle)))) * long

    def part(share: float, length: float, color: tuple[int, ...]) -> None:
        at = (x + share * ahead[0], y + share * ahead[1])
        draw.polygon(turned(at, length * long, wide - 2.5, angle), fill=color)

    part(0.2 if kind == "car" else 0.4, 0.13 if kind == "car" else 0.08, (28, 36, 52))
    if kind == "car":
        part(-0.3, 0.09, (28, 36, 52))
    else:
        part(-0.12, 0.7, tuple(int(0.75 * value) for value in paint))


def scene(rng: np.random.Generator) -> tuple[Image.Image, list[Box]]:
    """A picture, and its vehicles: the edges that each has before it is turned about its center, kind and angle."""
    picture, draw = ground(rng)
    boxes: list[Box] = []
    for _ in range(int(rng.integers(3, 13))):
        kind = str(rng.choice(list(KINDS), p=[0.7, 0.3]))
        long, wide = (side * rng.uniform(0.88, 1.15) for side in KINDS[kind])
        x, y = rng.uniform(7, SIDE - 7, 2)
        if any(np.hypot(x - (b[0] + b[2]) / 2, y - (b[1] + b[3]) / 2) < (long + b[2] - b[0]) / 2 for b in boxes):
            continue  # they would touch
        box = (x - long / 2, y - wide / 2, x + long / 2, y + wide / 2, kind, rng.uniform(-180, 180))
        vehicle(draw, rng, kind, box)
        boxes.append(box)
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(float)
    noisy = small * rng.uniform(0.8, 1.1) + rng.normal(0, 5, small.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8)), boxes


def write(folder: Path, count: int = COUNT, seed: int = 0) -> Path:
    """Pictures and their table."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    lines = ["path,x_min,y_min,x_max,y_max,label,angle"]
    for number in range(count):
        picture, boxes = scene(rng)
        name = f"images/{number:03}.png"
        picture.save(folder / name)
        lines += [f"{name},{','.join(f'{edge:.2f}' for edge in box[:4])},{box[4]},{box[5]:.2f}" for box in boxes]
        lines += [] if boxes else [f"{name},,,,,,"]
    table = folder / "boxes.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def main(folder: Path, minutes: float) -> None:
    """Make the data, train, and say what is found on one picture, and how it is turned."""
    run = striate.train(write(folder), minutes=minutes, out=folder / "run")
    test = run.metrics["test"]
    print(f"mAP at IoU 0.5: {100 * test['map50']:.1f} %, over all IoUs {100 * test['map']:.1f} %, n = {test['n']}")
    if test["angle_error"] is not None:
        print(f"median angle error: {test['angle_error']:.2f}°")
    found = run.load().predict(str(folder / "images" / "000.png"))
    for box in found.fields["boxes"]:
        edges = ", ".join(f"{edge:.0f}" for edge in box["box"])
        print(f"{box['label']:<8}{100 * box['probability']:3.0f} %  {edges}, turned by {box['angle']:.0f}°")


if __name__ == "__main__":
    main(
        Path(sys.argv[1] if len(sys.argv) > 1 else "rotated_vehicles"),
        float(sys.argv[2]) if len(sys.argv) > 2 else 5.0,
    )
