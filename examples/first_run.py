"""Train the lectures' network on 5,000 real digits, see how good it is, and watch it answer.

Command: make demo. Measured on 2 CPU cores: see docs/results.md.
"""

import numpy as np

import striate
from striate.data.config import DataConfig
from striate.data.read import load_dataset

SHADES = np.array(list(" .:-=+*#%@"))


def draw(image: np.ndarray) -> list[str]:
    """Lines of text for one (1, 28, 28) uint8 digit, two rows of pixels a line."""
    rows = image[0, 2:26:2, 3:25].astype(int)
    return ["".join(line) for line in SHADES[rows * 9 // 255]]


def main() -> None:
    """Train, report, and show the answers to three digits that the network never saw."""
    run = striate.train("mnist5k", "mnist-cnn", epochs=40)
    test = run.metrics["test"]
    low, high = test["accuracy_interval"]
    print(
        f"\n{run.metrics['params']:,} parameters, trained in {run.metrics['train_seconds']:.0f} s on "
        f"{run.metrics['device']} ({run.metrics['images_per_second']:,.0f} images/s)"
    )
    print(
        f"test accuracy {100 * test['accuracy']:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %, "
        f"n = {test['n']:,}\n"
    )
    split = load_dataset(DataConfig("mnist5k")).splits["test"]
    images = list(split.inputs[[100, 400, 900]].numpy())
    answers = run.load().predict(images)
    for lines in zip(*map(draw, images), strict=True):
        print("   ".join(lines))
    print("   ".join(f"{f'{a.label} ({100 * a.probability:.1f} %)':<22}" for a in answers))
    print(f"\neverything about this run: {run.report}")


if __name__ == "__main__":
    main()
