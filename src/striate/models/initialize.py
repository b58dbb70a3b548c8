"""First weights of a network, by the activation that follows each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from striate.layers.locally_connected import LocallyConnected
from striate.models.spec import Layer

Weighted = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | LocallyConnected

RELU_LIKE = ("relu", "leaky", "prelu", "elu", "swish", "maxout")
SATURATING = ("sigmoid", "tanh")
NORMALIZING = ("bn", "gn", "ln", "lrn", "lcn")
OUTPUT_SCALE = 0.1
SHORTCUT = "shortcut"


def initialize(modules: Sequence[tuple[nn.Module, Layer]]) -> None:
    """Initializes, in place, the layers that have weights; `modules` are in the order of execution.

    Followed by relu or its kin (normalization, pooling and dropout in between do not matter): normal with variance
    2 / ((1 + slope²) · fan-in), He et al., ICCV 2015. By sigmoid or tanh: uniform, Glorot and Bengio, AISTATS 2010.
    By nothing, and projections: normal with variance 1 / fan-in; the last one as in `initialize_output`. Biases are
    zero.
    """
    for index, (module, _) in enumerate(modules):
        if not isinstance(module, Weighted):
            continue
        if _is_output(modules, index):
            initialize_output(module)
            continue
        weight = module.weight
        fan_in, fan_out = _fans(module)
        activation = _following(modules, index)
        if activation.word in SATURATING:
            bound = math.sqrt(6 / (fan_in + fan_out))
            nn.init.uniform_(weight, -bound, bound)
        else:
            slope = float(str(activation["slope"])) if activation.word == "leaky" else 0.0
            gain = 2 / (1 + slope**2) if activation.word in RELU_LIKE else 1.0
            nn.init.normal_(weight, 0.0, math.sqrt(gain / fan_in))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialize_output(module: Weighted) -> None:
    """First weights, in place, of the layer that gives the outputs: normal, 0.1 / √fan-in; biases zero.

    The loss then begins near ln K for K classes. With 1 / √fan-in, logits begin with a variance of 1 and more (max
    pooling and dropout raise the mean square of features to 10 and more), and have to be unlearned first.
    As N(0, 0.01) in Goyal et al., "Accurate, large minibatch SGD", 2017, section 5.1, but for any width. Not zero:
    then the layers before would get no gradient in the first step.
    """
    nn.init.normal_(module.weight, 0.0, OUTPUT_SCALE / math.sqrt(_fans(module)[0]))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def _is_output(modules: Sequence[tuple[nn.Module, Layer]], index: int) -> bool:
    """Whether neither weights nor an activation nor a normalization, which would undo the scale, come after."""
    changing = {*RELU_LIKE, *SATURATING, *NORMALIZING, "conv", "local", "fc"} - {"maxout"}
    return not any(layer.word in changing for _, layer in modules[index + 1 :])


def _fans(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, LocallyConnected):
        return module.fan_in, module.out_channels * math.prod(module.kernel_size)
    weight = module.get_parameter("weight")
    window = math.prod(weight.shape[2:])
    return weight.shape[1] * window, weight.shape[0] * window


def _following(modules: Sequence[tuple[nn.Module, Layer]], index: int) -> Layer:
    """The activation after a layer, before the next one with weights; a layer `identity` where there is none, and for
    shortcuts, which carry their input on as it is."""
    if modules[index][1].word == SHORTCUT:
        return Layer("identity")
    for _, layer in modules[index + 1 :]:
        if layer.word in RELU_LIKE or layer.word in SATURATING:
            return layer
        if layer.word in ("conv", "local", "fc"):
            break
    return Layer("identity")
