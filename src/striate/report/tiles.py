"""Samples for a page, one by one, so that they find room on any screen and can be heard."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from striate.evaluation.record import Evaluation
from striate.report.content import SampleTile
from striate.report.wording import percent

SIDE = 96
"""Pixels of the longer side: larger images are made smaller, smaller ones are shown in whole multiples."""


def sample_tiles(
    evaluation: Evaluation,
    pixels: NDArray[np.uint8],
    chosen: NDArray[np.int64],
    names: Sequence[str] = (),
    *,
    runner_up: bool = False,
) -> tuple[SampleTile, ...]:
    """The samples at the places `chosen` of a classification; `pixels` (len(chosen), C, H, W) with 1 or 3 channels.
    `names` of all samples of the split, such as their paths; with `runner_up` each says its next probable class."""
    tiles = []
    for place, image in zip(chosen, pixels, strict=True):
        shares, true = evaluation.decoded[place], int(evaluation.targets[place])
        said, *others = (int(k) for k in np.argsort(-shares, kind="stable")[:2])
        answer, *after = (f"{evaluation.classes[k]}, {percent(float(shares[k]))}" for k in (said, *others))
        name = names[place] if len(names) else f"sample {int(evaluation.ids[place])}"
        png, width, height, enlarged = encode(image)
        tiles.append(
            SampleTile(
                png,
                width,
                height,
                enlarged,
                name,
                answer,
                evaluation.classes[true],
                said == true,
                after[0] if runner_up and after else "",
            )
        )
    return tuple(tiles)


def encode(image: NDArray[Any], side: int = SIDE) -> tuple[str, int, int, bool]:
    """An image (C, H, W) uint8 as a PNG in base64, the width and height at which it is shown, and whether that is more
    than it has."""
    picture = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
    if max(picture.size) > side:
        picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    times = max(1, side // max(picture.size))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    width, height = picture.size
    return b64encode(file.getvalue()).decode("ascii"), times * width, times * height, times > 1
