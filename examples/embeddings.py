"""Recognize characters that nobody trained: made strokes, embeddings, search and match.

Command: python examples/embeddings.py [FOLDER]. Each character is a few strokes, drawn sixteen times by a shaky hand.
The network learns from two thirds of the characters; the figures, the search and the matches are of the others.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import striate

CHARACTERS, DRAWINGS, SIDE = 60, 16, 32


def drawing(strokes: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """One drawing of a character: `strokes` (S, 3, 2) of three points each, from 0 to 1, turned, scaled and shaken."""
    angle, scale = rng.normal(0, 0.12), rng.uniform(0.85, 1.1)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    points = (strokes + rng.normal(0, 0.03, strokes.shape) - 0.5) @ turn + 0.5 + rng.normal(0, 0.03, 2)
    picture = Image.new("L", (4 * SIDE, 4 * SIDE), 255)
    pen = ImageDraw.Draw(picture)
    for stroke in points:
        pen.line([tuple(4 * SIDE * point) for point in stroke], 0, 9, joint="curve")
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX)


def write(folder: Path) -> Path:
    """A folder for each character."""
    rng = np.random.default_rng(0)
    for character in range(CHARACTERS):
        strokes = rng.uniform(0.15, 0.85, (rng.integers(2, 5), 3, 2))
        (folder / f"character{character:02}").mkdir(parents=True, exist_ok=True)
        for number in range(DRAWINGS):
            drawing(strokes, rng).save(folder / f"character{character:02}" / f"{number:02}.png")
    return folder


def main() -> None:
    """Make the data, train, search for an unseen character, and compare pairs."""
    folder = write(Path(sys.argv[1] if len(sys.argv) > 1 else "characters"))
    run = striate.train(folder, epochs=15, task="embed")
    test = run.metrics["test"]
    print(f"unseen characters: recall@1 {100 * test['recall@1']:.1f} %, AUC {100 * test['auc']:.1f} %, n = {test['n']}")
    with (run.path / "split.csv").open(newline="") as file:
        unseen = sorted({row["label"] for row in csv.DictReader(file) if row["split"] == "test"})
    one, other = (folder / name for name in unseen[:2])
    (found,) = striate.search(run, [one / "00.png"], folder, top=5).hits
    print(f"most like {one.name}:", ", ".join(f"{Path(path).parent.name} {near:.2f}" for path, near in found.hits))
    for second in (one / "01.png", other / "00.png"):
        pair = striate.match(run, one / "00.png", second)
        verdict = "the same" if pair.same else "not the same"
        print(f"{one.name} and {second.parent.name}: {verdict}, {pair.probability:.2f}")


if __name__ == "__main__":
    main()
