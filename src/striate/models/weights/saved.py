"""What a file of weights holds, and what a checkpoint says of its network beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from striate.models.layer_strings.shapes import Shape


@dataclass(frozen=True)
class Weights:
    """Tensors by name. `path` is what the user named, `file` the file behind it."""

    path: str
    file: Path
    tensors: dict[str, Any]


@dataclass(frozen=True)
class SavedNetwork(Weights):
    """A checkpoint: `name` builds its network, for `input_shape` without batch and `outputs`.

    `classes` is empty where the task has none. Its inputs were of `kind` (`image`, `grid`, `table`), standardized with
    `mean` and `std`, one each for every channel or feature, in input units; empty where the checkpoint does not say.
    `task` is what it was trained for; `target_scale` the means and standard deviations that its outputs are in, empty
    unless they are numbers.
    """

    name: str
    input_shape: Shape
    outputs: int
    dense: bool
    classes: tuple[str, ...]
    kind: str = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    task: str = ""
    target_scale: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
