"""An explanation in a notebook."""

from __future__ import annotations

import io
from base64 import b64encode

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate import notebook
from striate.visualize.attribution.explanation import Explanation, as_pixels
from striate.visualize.attribution.text import answer_line, change_lines, trust_lines

_SIDE = 160


def notebook_explanation(explained: Explanation) -> str:
    """The answer, the input beside the map that is looked at first, and the checks, as HTML."""
    chosen, pictures = explained.maps.chosen, ""
    if explained.input.ndim == 3 and chosen.values.ndim == 2:
        strength = np.abs(chosen.values.astype(np.float64))
        gray = (255 * strength / (strength.max() or 1.0)).round().astype(np.uint8)
        pictures = _image(as_pixels(explained.input), "the input") + _image(
            gray, f"{chosen.name}: bright where it matters"
        )
    columns = ("map", "alike with shuffled weights", "deletion gain", "verdict")
    rows = ((one.name, one.check.alike, one.check.gain, one.check.verdict) for one in explained.maps.maps)
    return notebook.page(
        answer_line(explained),
        pictures,
        *map(notebook.line, trust_lines(explained)),
        notebook.table(columns, rows),
        *map(notebook.line, change_lines(explained)),
        notebook.items(explained.notes),
    )


def _image(pixels: NDArray[np.uint8], words: str) -> str:
    picture, file = Image.fromarray(pixels), io.BytesIO()
    times = _SIDE / max(picture.size)
    size = max(1, round(picture.width * times)), max(1, round(picture.height * times))
    small = picture.resize(size, Image.Resampling.NEAREST if times > 1 else Image.Resampling.LANCZOS)
    small.save(file, "PNG")
    return notebook.image(b64encode(file.getvalue()).decode("ascii"), words)
