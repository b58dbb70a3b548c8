"""Find balls in volumes: made NIfTI files, a 3-D U-Net, and masks written in the space of the files.

Command: python examples/volumes.py [FOLDER]. The volumes are made here: noise with a bright ball and a brighter tube in
each; some are stored in another orientation, some with thicker slices.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel
import numpy as np

import striate

COUNT, SIDES = 36, (26, 30, 22)


def made(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A volume and its mask: 1 is the ball, 2 the tube."""
    places = np.stack(np.indices(SIDES), -1) - rng.uniform(8, 14, 3)
    mask = ((places**2).sum(-1) < rng.uniform(16, 36)).astype(np.uint8)
    mask[(places[..., 0] - 6) ** 2 + (places[..., 1] - 6) ** 2 < 4] = 2
    return (rng.normal(size=SIDES) + 2.0 * (mask == 1) + 3.0 * (mask == 2)).astype(np.float32), mask


def write(folder: Path) -> Path:
    """Pairs of files under images/ and masks/."""
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("background\nball\ntube\n", encoding="utf-8")
    for k in range(COUNT):
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if k % 3 == 0 else np.diag([1.0, 1.0, 1.5 if k % 3 == 1 else 1.0, 1.0])
        for part, values in zip(("images", "masks"), made(rng), strict=True):
            nibabel.save(nibabel.Nifti1Image(values, affine), folder / part / f"{k:02}.nii.gz")
    return folder


def main(folder: Path) -> None:
    """Make the volumes, train on them, and write the mask of one."""
    data = write(folder / "balls")
    run = striate.train(data, "small-unet3d(width=8)", epochs=40, batch=4, out=folder / "run")
    test = run.metrics["test"]
    each = ", ".join(f"{name} {dice:.2f}" for name, dice in test["dice_per_class"].items())
    print(f"Dice on {test['n']} test volumes: {each}")
    trained = striate.load(folder / "run")
    file = data / "images" / "00.nii.gz"
    found = trained.task.write_prediction(folder, str(file), trained.predict(file).decoded)
    mask = nibabel.load(found["mask"])
    print(f"{found['mask']}: {mask.shape}, {''.join(nibabel.aff2axcodes(mask.affine))}, as {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "example-volumes"))
