"""Read how full a bottle is: made pictures, a table of numbers, a network, and its error in liters.

Command: python examples/regression.py [FOLDER]. The pictures are made here; bottles differ in size, place, color and
light, and what they hold is known exactly. Labels with fractions are numbers, so that no task has to be named.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT, SIDE, HOLDS = 600, 48, 1.5
"""How many pictures, their side in pixels, and how many liters a full bottle holds."""


def bottle(rng: np.random.Generator) -> tuple[Image.Image, float]:
    """A picture of a bottle, drawn at four times its size, and how many liters are in it."""
    full = rng.uniform(0.05, 0.95)
    light, drink = rng.integers(150, 240), rng.integers(20, 200, 3)
    picture = Image.new("RGB", (4 * SIDE, 4 * SIDE), (int(light),) * 3)
    draw = ImageDraw.Draw(picture)
    width, height = 4 * rng.uniform(12, 20), 4 * rng.uniform(26, 38)
    left, top = rng.uniform(4, 4 * SIDE - width - 4), rng.uniform(4, 4 * SIDE - height - 4)
    draw.rectangle((left, top, left + width, top + height), fill=(int(light) - 25,) * 3)
    draw.rectangle((left, top + (1 - full) * height, left + width, top + height), fill=tuple(drink.tolist()))
    draw.rectangle((left, top, left + width, top + height), outline=(30, 30, 40), width=5)
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    noisy = (small + rng.normal(0, 6, small.shape)).clip(0, 255)
    return Image.fromarray(noisy.astype(np.uint8)), full * HOLDS


def write(folder: Path) -> Path:
    """Pictures and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for number in range(COUNT):
        picture, liters = bottle(rng)
        picture.save(folder / f"{number:03}.png")
        lines.append(f"{number:03}.png,{liters:.3f}")
    (folder / "liters.csv").write_text("\n".join(lines) + "\n")
    return folder / "liters.csv"


def main() -> None:
    """Make the data, train, and predict for one new picture."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "bottles")
    run = striate.train(write(folder), epochs=30)
    test = run.metrics["test"]
    low, high = test["rmse_interval"]
    print(f"test RMSE {test['rmse']:.3f} liters (95 % interval {low:.3f} to {high:.3f}), R² {test['r2']:.2f}")
    picture, liters = bottle(np.random.default_rng(1))
    print(f"in a new bottle: {run.load().predict(picture).value:.2f} liters ({liters:.2f} in truth)")


if __name__ == "__main__":
    main()
