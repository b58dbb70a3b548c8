"""Read a dial's value, its color and its marks with one network, and see whether sharing it helps each of them.

Command: python examples/several_targets.py [FOLDER]. The pictures are made here; the value of every third dial was not
written down, the color of every fourth.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT, SIDE = 480, 32
COLORS = {"amber": (230, 160, 40), "blue": (60, 90, 220), "green": (40, 160, 80)}


def dial(rng: np.random.Generator) -> tuple[Image.Image, float, str, list[str]]:
    """A picture, the value from 0 to 10 that its hand shows, its color, and which marks it has."""
    value, color = float(rng.uniform(0, 10)), str(rng.choice(list(COLORS)))
    marks = [name for name in ("corner", "rim") if rng.random() < 0.5]
    image = Image.fromarray(rng.integers(20, 70, (SIDE, SIDE, 3), np.uint8))
    draw, middle = ImageDraw.Draw(image), SIDE / 2
    draw.ellipse((5, 5, SIDE - 6, SIDE - 6), fill=COLORS[color], outline=(255, 255, 255) if "rim" in marks else None)
    angle = np.pi * (1 - value / 10)
    tip = middle + 9 * np.cos(angle), middle - 9 * np.sin(angle)
    draw.line((middle, middle, *tip), (10, 10, 10), 2)
    if "corner" in marks:
        draw.rectangle((1, 1, 4, 4), fill=(240, 240, 240))
    return image, value, color, marks


def write(folder: Path) -> Path:
    """Pictures and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(0), ["path,value,color,marks"]
    for number in range(COUNT):
        image, value, color, marks = dial(rng)
        image.save(folder / f"{number:03}.png")
        known = f"{value:.2f}" if number % 3 else ""
        lines.append(f"{number:03}.png,{known},{color if number % 4 else ''},{'|'.join(marks)}")
    (folder / "dials.csv").write_text("\n".join(lines) + "\n")
    return folder / "dials.csv"


def main() -> None:
    """Make the data, train all targets together and each alone, and predict for one new dial."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "dials")
    targets = "value:number,color:class,marks:multilabel"
    network = "2*[conv(16,3,pad=1) bn relu pool(2)] conv(32,3,pad=1) bn relu pool(2) flatten fc(64) relu fc(6)"
    fields = {"data.targets": targets, "compare_single": True}
    run = striate.train(write(folder), network, epochs=12, set=fields)
    test = run.metrics["test"]["targets"]
    print(f"value RMSE {test['value']['rmse']:.2f}, color accuracy {100 * test['color']['accuracy']:.1f} %")
    print(f"marks mAP {100 * test['marks']['map']:.1f} %")
    for one in run.metrics["single"].values():
        print(one["sentence"])
    image, value, color, marks = dial(np.random.default_rng(1))
    found = run.load().predict(image).fields["targets"]
    print(f"a new dial: {found} (in truth {value:.1f}, {color}, {' and '.join(marks) or 'no marks'})")


if __name__ == "__main__":
    main()
