"""Name what is in a picture: made pictures with shapes, a column of labels, a network, and a threshold for each label.

Command: python examples/multilabel.py [FOLDER]. The pictures are made here; disks and squares like to come together,
crosses come alone, and some pictures are empty.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

COUNT, SIDE = 600, 32
NAMES = ("cross", "disk", "square")


def picture(rng: np.random.Generator) -> tuple[Image.Image, list[str]]:
    """A noisy picture and what is in it."""
    chosen = [[], ["cross"], ["disk"], ["square"], ["disk", "square"], ["cross", "disk"]]
    own = chosen[rng.choice(len(chosen), p=[0.1, 0.2, 0.15, 0.15, 0.3, 0.1])]
    image = Image.fromarray(rng.integers(30, 90, (SIDE, SIDE), np.uint8))
    draw = ImageDraw.Draw(image)
    for name in own:
        x, y, radius = *rng.integers(6, SIDE - 6, 2).tolist(), int(rng.integers(3, 6))
        box, shade = (x - radius, y - radius, x + radius, y + radius), int(rng.integers(120, 255))
        if name == "disk":
            draw.ellipse(box, fill=shade)
        elif name == "square":
            draw.rectangle(box, fill=shade)
        else:
            draw.line((x - radius, y, x + radius, y), shade, 2)
            draw.line((x, y - radius, x, y + radius), shade, 2)
    return image, own


def write(folder: Path) -> Path:
    """Pictures and their table."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = ["path,labels"]
    for number in range(COUNT):
        image, own = picture(rng)
        image.save(folder / f"{number:03}.png")
        lines.append(f"{number:03}.png,{'|'.join(own)}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


def main() -> None:
    """Make the data, train, and predict for one new picture."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "shapes")
    run = striate.train(write(folder), epochs=40)
    test = run.metrics["test"]
    each = ", ".join(f"{name} {100 * value:.1f} %" for name, value in test["ap"].items())
    print(f"test mAP {100 * test['map']:.1f} % ({each}), all labels right {100 * test['exact_match']:.1f} %")
    image, own = picture(np.random.default_rng(3))
    fields = run.load().predict(image).fields
    found = ", ".join(f"{name} {share:.2f}" for name, share in fields["labels"])
    print(f"in a new picture: {found or 'nothing'} (in truth: {', '.join(own) or 'nothing'})")


if __name__ == "__main__":
    main()
