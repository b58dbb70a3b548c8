"""First weights of a network, by the activation that follows each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from striate.layers.locally_connected import LocallyConnected
from striate.models.spec import Layer

RELU_LIKE = ("relu", "leaky", "prelu", "elu", "swish", "maxout")
SATURATING = ("sigmoid", "tanh")


def initialize(modules: Sequence[tuple[nn.Module, Layer]]) -> None:
    """Initializes, in place, the layers that have weights; `modules` are in the order of execution.

    Followed by relu or its kin (normalization, pooling and dropout in between do not matter): normal with variance
    2 / ((1 + slope²) · fan-in), He et al., ICCV 2015. By sigmoid or tanh: uniform, Glorot and Bengio, AISTATS 2010.
    By nothing (outputs, projections): normal with variance 1 / fan-in. Biases are zero.
    """
    for index, (module, _) in enumerate(modules):
        weight = getattr(module, "weight", None)
        if not isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | LocallyConnected) or weight is None:
            continue
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


def _fans(module: nn.Module) -> tuple[int, int]:
    if isinstance(module, LocallyConnected):
        return module.fan_in, module.out_channels * math.prod(module.kernel_size)
    weight = module.get_parameter("weight")
    window = math.prod(weight.shape[2:])
    return weight.shape[1] * window, weight.shape[0] * window


def _following(modules: Sequence[tuple[nn.Module, Layer]], index: int) -> Layer:
    """The activation after a layer, before the next one with weights; a layer `identity` where there is none."""
    for _, layer in modules[index + 1 :]:
        if layer.word in RELU_LIKE or layer.word in SATURATING:
            return layer
        if layer.word in ("conv", "local", "fc"):
            break
    return Layer("identity")
