"""A segmentation in pictures, tables and sections of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from striate.tasks.evaluation import Evaluation
from striate.tasks.show import PHOTO_DPI, Images, places_at_random
from striate.visualize.canvas import save_figure
from striate.visualize.masks import masks_figure
from striate.visualize.page_parts import Picture

SHOWN_MASKS = 5


def masks_picture(folder: Path, evaluation: Evaluation, images: Images, title: str) -> Picture:
    """`masks.png`: some samples at random."""
    chosen = places_at_random(evaluation.n, SHOWN_MASKS)
    figure = masks_figure(
        np.asarray(images[chosen]),
        evaluation.targets[chosen],
        evaluation.decoded[chosen],
        evaluation.classes,
        title=title,
    )
    path = save_figure(figure, folder / "masks.png", PHOTO_DPI)
    caption = f"{title}; {len(chosen)} drawn at random. Hatched: wrong. Gray checks: not labeled."
    return Picture("Samples", caption, path, "samples")
