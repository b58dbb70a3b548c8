"""Find the hands of drawn clocks: made images, a table of points, a network, and predictions in pixels.

Command: python examples/keypoints.py [FOLDER]. The images are made here, of several sizes; the rim, the center and the
tips of both hands are known exactly, and the hour hand of some was not marked. Left and right follow from the names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT = 600
NAMES = ("left_rim", "right_rim", "center", "hour_tip", "minute_tip")


def clock(rng: np.random.Generator) -> tuple[Image.Image, np.ndarray]:
    """A picture of a clock, drawn at four times its size, and its points (5, 2) in pixels of the picture."""
    width, height = rng.integers(72, 129, 2).tolist()
    radius = rng.uniform(0.3, 0.45) * min(width, height)
    center = np.array([rng.uniform(radius, width - radius), rng.uniform(radius, height - radius)])
    angles = rng.uniform(0, 2 * np.pi, 2)
    tips = center + np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * np.array([[0.5], [0.85]])
    colors = rng.integers(0, 256, (2, 3))
    picture = Image.new("RGB", (4 * width, 4 * height), tuple(colors[0].tolist()))
    draw = ImageDraw.Draw(picture)
    box = [*(4 * (center - radius)).tolist(), *(4 * (center + radius)).tolist()]
    draw.ellipse(box, fill=tuple(((colors[0] + 128) % 256).tolist()), outline=tuple(colors[1].tolist()), width=8)
    for tip, thick in zip(tips, (14, 7), strict=True):
        draw.line([*(4 * center).tolist(), *(4 * tip).tolist()], tuple(colors[1].tolist()), thick)
    rim = center + np.array([[-radius, 0.0], [radius, 0.0]])
    return picture.resize((width, height), Image.Resampling.BOX), np.vstack([rim, center, tips])


def write(folder: Path) -> Path:
    """Images and their table."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["path," + ",".join(f"{name}_{axis}" for name in NAMES for axis in "xy")]
    for number in range(COUNT):
        picture, points = clock(rng)
        picture.save(folder / "images" / f"{number:03}.png")
        hidden = rng.random() < 0.1  # nobody marked the hour hand of some
        fields = ["" if hidden and 6 <= k < 8 else f"{value:.2f}" for k, value in enumerate(points.ravel())]
        lines.append(f"images/{number:03}.png,{','.join(fields)}")
    table = folder / "points.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def main() -> None:
    """Make the data, train, and predict for one new clock."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "clocks")
    run = striate.train(write(folder), epochs=15)
    test = run.metrics["test"]
    print(f"test NME {100 * test['nme']:.1f} %, PCK at 0.1 {100 * test['pck']:.1f} %, n = {test['n']}")
    picture, points = clock(np.random.default_rng(1))
    for (name, x, y, sure), (true_x, true_y) in zip(run.load().predict(picture).fields["points"], points, strict=True):
        print(f"{name:<12} at {x:6.1f}, {y:6.1f}  ({true_x:6.1f}, {true_y:6.1f} in truth), confidence {sure:.2f}")


if __name__ == "__main__":
    main()
