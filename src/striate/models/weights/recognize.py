"""Which network of the zoo a file of weights is of, told by the names and shapes of its tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from striate.errors import StriateError
from striate.models.build import build_model
from striate.models.layer_strings.shapes import Shape
from striate.models.model_info import ModelInfo
from striate.models.registry import MODELS
from striate.models.weights.saved import Weights
from striate.models.weights.take_weights import take_weights

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "n_averaged")
_ABOUT, _ROUGHLY = 2.5, 10.0


def recognize(weights: Weights, input_shape: Shape, outputs: int, dense: bool) -> str | None:
    """The first name of the zoo whose network, made for this input and these outputs, takes the weights; else None.

    Networks are built with their default arguments, on the meta device: no memory is taken. Where this input is too
    small for one, it is made for the published size. Those whose number of parameters rules them out are not built.
    """
    tensors = [t for key, t in weights.tensors.items() if isinstance(t, torch.Tensor) and not key.endswith(_BUFFERS)]
    for name, info in MODELS.items():
        if not _could_have(info, tensors, input_shape[0]):
            continue
        network = _built(info, input_shape, outputs, dense)
        if network is None:
            continue
        try:
            take_weights(network, weights, outputs)
        except StriateError:
            continue
        return name
    return None


def _built(info: ModelInfo, input_shape: Shape, outputs: int, dense: bool) -> nn.Module | None:
    """The network without memory for its weights; None where it does not take such inputs at any size."""
    arguments: dict[str, Any] = {"dense": dense}
    published = (*input_shape[:1], *info.input_shape[1:])
    for shape in dict.fromkeys((input_shape, published)):
        try:
            with torch.device("meta"):
                return build_model(info.name, shape, outputs, **arguments)
        except StriateError:
            continue
    return None


def _could_have(info: ModelInfo, tensors: list[torch.Tensor], channels: int) -> bool:
    """Whether the network can have as many parameters as these, in whatever order they are in the file.

    Of one fixed form, but for input channels (these, or red, green and blue) and outputs: any kernel on so many could
    be the first layer's, any matrix the last one's, or the file may be without that. With auxiliary classifiers or
    not, a network is at most _ABOUT times another; one whose layers follow the size of the image, _ROUGHLY.
    """
    count, published, outputs = sum(t.numel() for t in tensors), info.input_shape[0], info.outputs
    more = count - info.published_parameters
    if not info.weights or any(parameter.name == "aux" for parameter in info.parameters):
        within = _ABOUT if info.weights else _ROUGHLY
        return info.reduction < 2 or info.published_parameters / within < count < info.published_parameters * within
    first = [t for t in tensors if t.ndim == 4 and t.shape[1] in (channels, 3)]
    colors = {0} | {(t.shape[1] - published) * t[:, 0].numel() for t in first}
    heads = {(t.shape[0] - outputs) * (t.shape[1] + 1) for t in tensors if t.ndim == 2}
    headless = any(color > more and (color - more) % outputs == 0 for color in colors)
    return headless or any(more - color in heads for color in colors)
