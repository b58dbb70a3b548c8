"""A network for masks learns from small pictures and finds leaves and stones in a large one, tile by tile.

Two hundred pictures of 128 pixels are drawn, with a mask each; half of the pixels of their edge are not labeled. The
network is the default one. The large picture has other textures beside each other, and its mask is the same, computed
whole or in tiles. Writes masks-of-large-pictures/. Command: python examples/masks_of_large_pictures.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

import striate
from striate.api import predict_files

OUT = Path("masks-of-large-pictures")
NAMES = ("ground", "leaf", "stone")


def draw(side: int, shapes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A picture (side, side, 3) of green leaves and gray stones on brown ground, and its mask."""
    y, x = np.mgrid[:side, :side]
    mask = np.zeros((side, side), np.uint8)
    for _ in range(shapes):
        row, column, size, turn = *rng.uniform(0, side, 2), rng.uniform(6, 14), rng.uniform(0, np.pi)
        along = (y - row) * np.sin(turn) + (x - column) * np.cos(turn)
        across = (y - row) * np.cos(turn) - (x - column) * np.sin(turn)
        kind = int(rng.integers(1, 3))
        mask[np.hypot(along / (2 if kind == 1 else 1), across) < size] = kind
    colors = np.array([[110, 85, 60], [85, 105, 55], [115, 105, 95]])
    grain = rng.normal(0, np.array([12, 25, 6])[mask][..., None], (side, side, 3))
    return (colors[mask] + grain).clip(0, 255).astype(np.uint8), mask


def main() -> None:
    rng = np.random.default_rng(0)
    for part in ("images", "masks"):
        (OUT / "data" / part).mkdir(parents=True, exist_ok=True)
    for number in range(200):
        image, mask = draw(128, 12, rng)
        mask[0, ::2] = 255
        Image.fromarray(image).save(OUT / "data" / "images" / f"{number:03}.png")
        Image.fromarray(mask).save(OUT / "data" / "masks" / f"{number:03}.png")
    (OUT / "data" / "classes.txt").write_text("\n".join(NAMES))
    run = striate.train(OUT / "data", minutes=2, out=OUT / "run")
    print(striate.evaluate(run))

    image, truth = draw(1000, 700, rng)
    Image.fromarray(image).save(OUT / "large.png")
    whole, tiled = (next(iter(predict_files(run, [OUT / "large.png"], tile=tile))).prediction for tile in (None, 256))
    assert whole is not None
    assert tiled is not None
    found = tiled.decoded.numpy()
    print(f"the large picture: {100 * (found == truth).mean():.1f} % of the pixels are right;")
    print(f"{100 * (found == whole.decoded.numpy()).mean():.4f} % are the same whole and in tiles of 256 pixels")


if __name__ == "__main__":
    main()
