"""Learn a code of digits without labels, and begin a classifier with it: does it help where labels are few?

Command: python examples/autoencoder.py [FOLDER]. The data set digits comes with scikit-learn.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import striate

LABELED = 4
"""Training images of each class that the classifiers see."""


def write(folder: Path) -> tuple[Path, Path]:
    """All digits without classes in one folder; in a manifest a few of them with their classes, and 1,000 to test."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    seen, rows = np.zeros(10, int), ["path,label,split"]
    for number, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        name = f"images/{number:04}.png"
        image = Image.fromarray((pixels * 15.9).astype(np.uint8))
        image.resize((16, 16), Image.Resampling.BILINEAR).save(folder / name)
        if number >= 797:
            rows.append(f"{name},{label},test")
        elif seen[label] < 2 * LABELED:
            rows.append(f"{name},{label},{'train' if seen[label] < LABELED else 'val'}")
            seen[label] += 1
    (folder / "few.csv").write_text("\n".join(rows) + "\n")
    return folder / "images", folder / "few.csv"


def main() -> None:
    """Make the data, train an autoencoder, and a classifier with and without its weights."""
    images, few = write(Path(sys.argv[1] if len(sys.argv) > 1 else "digits-few"))
    encoder = "conv(16,3,pad=1) relu pool(2) conv(32,3,pad=1) relu pool(2) code(20)"
    found = striate.train(images, encoder, epochs=20, set={"task.name": "reconstruct", "augment.noise": 0.3})
    test = found.metrics["test"]
    print(f"{test['n']} images from a code of 20 numbers: PSNR {test['psnr']:.1f} dB")
    for what, weights in (("with the code", str(found.path)), ("without it", None)):
        run = striate.train(few, f"{encoder} fc(10)", epochs=60, set={"model.weights": weights})
        accuracy = run.metrics["test"]["accuracy"]
        print(f"{10 * LABELED} labels, {what}: {100 * accuracy:.1f} % of {run.metrics['test']['n']} digits are right")


if __name__ == "__main__":
    main()
