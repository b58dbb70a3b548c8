"""Say what lies where in a picture: made scenes that have exactly one right caption, a network, and what it looked at.

Command: python examples/captions.py [FOLDER]. The pictures are made here: one or two shapes in colors. Of two, the one
to the left or the one above is named first, whichever they are further apart by; so each picture has one caption.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT, SIDE = 2400, 40
COLORS = {"red": (220, 50, 40), "green": (50, 180, 70), "blue": (60, 90, 230), "yellow": (235, 210, 50)}
SHAPES = ("circle", "square", "triangle")


def scene(rng: np.random.Generator) -> tuple[Image.Image, str]:
    """A picture and its caption."""
    image = Image.fromarray(rng.integers(20, 60, (SIDE, SIDE, 3), np.uint8))
    count = 1 if rng.random() < 0.15 else 2
    places = rng.integers(8, SIDE - 8, (count, 2))
    while count == 2 and (abs(places[0] - places[1]).max() < 15 or abs(np.diff(abs(places[0] - places[1]))) < 5):
        places = rng.integers(8, SIDE - 8, (count, 2))  # too near, or neither more beside than above
    names = [draw_shape(ImageDraw.Draw(image), rng, *place) for place in places.tolist()]
    if count == 1:
        return image, f"a {names[0]}"
    across = abs(places[0, 0] - places[1, 0]) > abs(places[0, 1] - places[1, 1])
    first, second = np.argsort(places[:, 0 if across else 1])
    return image, f"a {names[first]} {'left of' if across else 'above'} a {names[second]}"


def draw_shape(draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: int, y: int) -> str:
    """Draw a shape around (x, y); what it is called."""
    color, shape, size = str(rng.choice(list(COLORS))), str(rng.choice(SHAPES)), int(rng.integers(5, 8))
    box = (x - size, y - size, x + size, y + size)
    if shape == "circle":
        draw.ellipse(box, fill=COLORS[color])
    elif shape == "square":
        draw.rectangle(box, fill=COLORS[color])
    else:
        draw.polygon([(x, y - size), (x - size, y + size), (x + size, y + size)], fill=COLORS[color])
    return f"{color} {shape}"


def write(folder: Path) -> Path:
    """Pictures and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, lines = np.random.default_rng(0), ["path,caption"]
    for number in range(COUNT):
        image, caption = scene(rng)
        image.save(folder / f"{number:04}.png")
        lines.append(f"{number:04}.png,{caption}")
    (folder / "captions.csv").write_text("\n".join(lines) + "\n")
    return folder / "captions.csv"


def main() -> None:
    """Make the data, train, and say what is in one new picture."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "scenes")
    network = "conv(32,3,pad=1) bn relu pool(2) conv(64,3,pad=1) bn relu pool(2) conv(128,3,pad=1) bn relu"
    # A mirrored picture has another caption than "left" and "right" exchanged: what is to the left comes first.
    run = striate.train(write(folder), network, epochs=8, set={"augment.flip": False, "augment.crop": 1.0})
    test = run.metrics["test"]
    print(
        f"of {test['n']} new scenes {100 * test['exact_match']:.1f} % are described exactly, BLEU-4 {test['bleu4']:.3f}"
    )
    image, caption = scene(np.random.default_rng(1))
    found = run.load().predict(image).fields
    print(f"a new scene: {found['caption']} ({100 * found['probability']:.0f} %; in truth {caption})")


if __name__ == "__main__":
    main()
