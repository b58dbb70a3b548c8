"""Write a picture with a prediction drawn over it into a folder of such pictures."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from PIL import Image

from striate.runs.files import write_atomic


def write_drawn(folder: Path, name: str, picture: NDArray[Any]) -> str:
    """Write a picture (H, W, 3) uint8 as a PNG named after `name`, a path or a sample (`arrays.npz#3`); its path.
    Nothing in the folder is overwritten."""
    _, sign, number = Path(name).suffix.partition("#")
    names = (f"{Path(name).stem}{sign}{number}{f'-{k}' if k else ''}.png" for k in count())
    file = next(folder / free for free in names if not (folder / free).exists())
    image = Image.fromarray(picture)
    write_atomic(file, lambda opened: image.save(opened, format="PNG"))
    return str(file)
