"""Which network of the zoo a file of weights is of, told by the names and shapes of its tensors."""

from __future__ import annotations

from typing import Any

import torch

from striate.errors import StriateError
from striate.models.build import build_model
from striate.models.registry import MODELS
from striate.models.saved import Weights
from striate.models.shapes import Shape
from striate.models.take_weights import take_weights


def recognize(weights: Weights, input_shape: Shape, outputs: int, dense: bool) -> str | None:
    """The first name of the zoo whose network, made for this input and these outputs, takes the weights; else None.

    Networks are built with their default arguments, on the meta device: no memory is taken.
    """
    arguments: dict[str, Any] = {"dense": dense}
    for name in MODELS:
        try:
            with torch.device("meta"):
                take_weights(build_model(name, input_shape, outputs, **arguments), weights, outputs)
        except StriateError:
            continue
        return name
    return None
