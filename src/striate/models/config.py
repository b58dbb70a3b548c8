"""Which network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Initialization = Literal[
    "auto", "he-normal", "he-uniform", "glorot-normal", "glorot-uniform", "lecun-normal", "orthogonal", "normal",
    "uniform", "dirac",
]  # fmt: skip


@dataclass(frozen=True)
class ModelConfig:
    """Fields of `model.*`."""

    name: str = "auto"
    """A zoo name, a layer string, `file.py:function`, a run; `auto` chooses by the shape of the data and says why."""
    digest: str | None = None
    """What was decided: the SHA-256 of the file behind `file.py:function`. A run goes on only with the same file."""
    init: Initialization = "auto"
    """Initialization: `auto` by the kind of each layer and its activation, or the same for all layers."""
    whiten: bool | None = None
    """Whether the kernels of the first convolution are computed from the training images, whose patches they whiten,
    and are not trained. None: where the network is made for it, as `airbench` is, and has no
    pretrained weights."""
    weights: str | None = None
    """A file of weights (a run, a checkpoint, a state_dict `.pt`, `.safetensors`) that training starts from."""
    weights_digest: str | None = None
    """What was decided: the SHA-256 of the file of weights. A run starts only with the same file."""
