"""Recognize the zoo network of a file of weights by the names and shapes of its tensors."""

from __future__ import annotations

import torch
from torch import nn

from striate.errors import ModelError, StriateError, pasted
from striate.models.check import check_outputs
from striate.models.from_zoo import build_from_zoo
from striate.models.layer_strings.shapes import Shape
from striate.models.registry import MODELS, ModelInfo
from striate.models.weights.saved import SavedNetwork, Weights
from striate.models.weights.take_weights import take_weights
from striate.models.weights.weights_file import read_weights
from striate.wording import listed

_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "n_averaged")
_ABOUT, _ROUGHLY = 2.5, 10.0


def recognize(weights: Weights, input_shape: Shape, outputs: int, dense: bool) -> str | None:
    """The name of the first zoo network that, built for this input and these outputs, takes the weights; else None.

    Networks are built with their default arguments on the meta device, without memory. If this input is too small for a
    network, it is built for its published size. Networks whose number of parameters cannot match are not built.
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


def nameless_weights(text: str) -> ModelError | None:
    """The error for a file of weights without the name of their network; None for all other files.

    Its remedy names the zoo network that takes them, if there is one.
    """
    try:
        weights = read_weights(text)
    except StriateError:
        return None
    if isinstance(weights, SavedNetwork):
        return None
    asked = (((3, 224, 224), False), ((1, 28, 28), False), ((3, 224, 224), True))
    found = next(filter(None, (recognize(weights, shape, 1000, dense) for shape, dense in asked)), None)
    got = f"weights without the name of their network: {listed(list(weights.tensors))}"
    remedy = (
        f"write {found}, the network of these weights"
        if found
        else "give the network instead of the file: a name that `striate models` lists, a layer string or "
        f"file.py:function; striate train then takes the file with --weights {pasted(text[:80])}"
    )
    return ModelError(text[:80], got, "the name of a network, or a run or checkpoint, which records it", remedy)


def _built(info: ModelInfo, input_shape: Shape, outputs: int, dense: bool) -> nn.Module | None:
    """The network without memory for its weights; None where it does not take such inputs at any size."""
    published = (*input_shape[:1], *info.input_shape[1:])
    for shape in dict.fromkeys((input_shape, published)):
        try:
            with torch.device("meta"):
                network = build_from_zoo(info, info.name, shape, outputs)
                check_outputs(network, shape, outputs, dense)
                return network
        except StriateError:
            continue
    return None


def _could_have(info: ModelInfo, tensors: list[torch.Tensor], channels: int) -> bool:
    """Whether the network can have the number of parameters of these tensors, which may be in any order.

    A network has a fixed form except for input channels (`channels`, or red, green and blue) and outputs: any kernel
    with that number of channels may be the first layer's, and any matrix the last layer's, or the file has no last
    layer. Auxiliary classifiers change the number by a factor of at most _ABOUT; image sizes, for networks whose layers
    depend on them, by _ROUGHLY.
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
