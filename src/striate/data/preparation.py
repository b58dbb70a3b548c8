"""How one sample becomes one input; free of torch."""

from __future__ import annotations

from dataclasses import dataclass

from striate.data.config import Fit, Layout

Kind = str
"""The name of a medium: `striate.data.media.every`."""


@dataclass(frozen=True)
class Preparation:
    """How one file becomes one input: all that `predict` must repeat.

    `channels`, `size` (height, width) and `fit` belong to images; a table or grid has only `input_shape`. `layout` is
    the order of axes in which arrays were read; `reduced`: large JPEGs are decoded at a part of their size.
    """

    kind: Kind
    input_shape: tuple[int, ...]
    fit: Fit = "crop"
    max_pixels: int = 64_000_000
    layout: Layout = "auto"
    reduced: bool = False
