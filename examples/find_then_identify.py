"""First where, then who: find a whale, turn it upright by its points, and tell which whale it is.

Command: python examples/find_then_identify.py [FOLDER]. The pictures are made here: whales from the air, at any angle
and place, each with its own pattern on its back. One set of pictures has points (nose, tail, both flippers), another
names the whale. A network that learns points is trained on the first; `crop_data` cuts out the whales of the second,
all turned and scaled alike; and a classifier learns names from the crops, another one from the whole pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate
from striate.api import crop_data

SIDE, FINE, WHALES = 96, 4, 16  # pixels; drawn so many times larger
POINTS = {"nose": (24, 0), "tail": (-25, 0), "left_flipper": (5, -13), "right_flipper": (5, 13)}


def whale(rng: np.random.Generator, who: int) -> tuple[Image.Image, np.ndarray]:
    """A picture of the sea with one whale, and its points (4, 2) in pixels."""
    sea = np.array((38, 84, 116)) + rng.normal(0, 6, 3) + rng.normal(0, 8, (16, 16, 3))
    picture = Image.fromarray(sea.clip(0, 255).astype(np.uint8)).resize((SIDE * FINE,) * 2, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    turn, scale = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.05)
    center = rng.uniform(0.38 * SIDE, 0.62 * SIDE, 2)

    def at(points: object) -> np.ndarray:
        """Pixels of points ahead and to the right of the middle of the whale."""
        ahead, right = np.array((np.cos(turn), np.sin(turn))), np.array((-np.sin(turn), np.cos(turn)))
        return center + scale * np.asarray(points, float) @ np.stack([ahead, right])

    def fill(points: object, color: tuple[int, ...]) -> None:
        draw.polygon([tuple(FINE * point) for point in at(points)], fill=color)

    skin = tuple((np.array((58, 62, 70)) + rng.integers(-8, 9, 3)).tolist())
    around = np.linspace(0, 2 * np.pi, 40)
    fill(np.stack([24 * np.cos(around), 7.5 * np.sin(around)], 1), skin)
    fill([(-18, 0), (-27, -8), (-24, 0), (-27, 8)], skin)
    fill([(9, -5), (5, -14), (2, -5)], skin)
    fill([(9, 5), (5, 14), (2, 5)], skin)
    pattern = np.random.default_rng(1000 + who)  # the same in each picture of this whale
    for _ in range(7):
        x, y, radius = pattern.uniform(-16, 17), pattern.uniform(-4, 4), pattern.uniform(1.2, 2.4)
        fill(np.stack([x + radius * np.cos(around), y + radius * np.sin(around)], 1), (206, 210, 214))
    fill([(24, 0), (20, -2.5), (20, 2.5)], (236, 214, 150))
    small = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BOX)).astype(float)
    noisy = (small + rng.normal(0, 5, small.shape)).clip(0, 255)
    return Image.fromarray(noisy.astype(np.uint8)), at(list(POINTS.values()))


def write(folder: Path, count: int) -> tuple[Path, Path]:
    """So many pictures with points, and as many with names: a table of the first, a folder a whale of the second."""
    rng = np.random.default_rng(0)
    lines = ["path," + ",".join(f"{name}_{axis}" for name in POINTS for axis in "xy")]
    for number in range(count):
        picture, points = whale(rng, int(rng.integers(WHALES, 100)))  # others than those that have to be told apart
        (folder / "points").mkdir(parents=True, exist_ok=True)
        picture.save(folder / "points" / f"{number:03}.png")
        lines.append(f"points/{number:03}.png,{','.join(f'{value:.2f}' for value in points.ravel())}")
        name = folder / "whales" / f"whale-{number % WHALES}"
        name.mkdir(parents=True, exist_ok=True)
        whale(rng, number % WHALES)[0].save(name / f"{number:03}.png")
    (folder / "points.csv").write_text("\n".join(lines) + "\n")
    return folder / "points.csv", folder / "whales"


def main(folder: Path, count: int = 320, finding: int = 15, telling: int = 20) -> None:
    """Make the pictures, train for so many epochs to find and to tell apart, and say how much the crops are worth."""
    points, whales = write(folder, count)
    finder = striate.train(points, epochs=finding, out=folder / "finder")
    print(f"points: NME {100 * finder.metrics['test']['nme']:.1f} %")
    cut = crop_data(whales, finder, folder / "crops", size=(48, 64))
    print(f"{cut.crops} crops of {cut.files} pictures, nothing found in {len(cut.nothing)}")
    for name, data in (("whole pictures", whales), ("crops", cut.data)):
        run = striate.train(data, epochs=telling, out=folder / f"by {name}", set={"augment.flip": False})
        test = run.metrics["test"]
        print(f"by {name}: {100 * test['accuracy']:.0f} % of {test['n']} whales are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "find_then_identify"))
