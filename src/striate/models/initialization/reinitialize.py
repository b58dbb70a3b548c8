"""Initialize all layers by one method, and materialize lazy layers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

from striate.errors import ConfigError
from striate.layers.convolution import LocallyConnected
from striate.models.config import Initialization
from striate.models.initialization.initialize import pass_on
from striate.models.preserved_state import is_lazy, on_trial, zero_input

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_PLAIN = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
NORMAL_STD = 0.01

Fill = Callable[[nn.Parameter, int, int], object]


def reinitialize(module: nn.Module, way: Initialization) -> None:
    """Draw new weights for all linear, convolutional and locally connected layers, in place, from torch's random state.
    `auto` changes nothing, and other parameters never change.

    With fan-in n and fan-out m, and zero biases except for `uniform`, the methods are:

    - `he-normal`, `he-uniform`: variance 2 / n, for relu (He et al., ICCV 2015)
    - `glorot-normal`, `glorot-uniform`: 2 / (n + m), for tanh (Glorot and Bengio, AISTATS 2010)
    - `lecun-normal`: 1 / n, for no activation (LeCun et al., "Efficient backprop", 1998)
    - `orthogonal`: orthonormal rows or columns (Saxe et al., ICLR 2014)
    - `normal`: standard deviation 0.01 (Krizhevsky et al., AlexNet, NIPS 2012)
    - `dirac`: the first filters of a convolution are identities of one channel each; other weights as with `uniform`
    - `uniform`: ±1 / √n, also for biases, which is variance 1 / (3 n): the initialization of torch's layers

    Raises ConfigError where there is no such layer, one is lazy without a shape, or one has weights of another kind.
    """
    if way == "auto":
        return
    kinds = (*_PLAIN, *_TRANSPOSED, LocallyConnected)
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}
    for name, layer in module.named_modules():
        ours = type(layer).__module__.startswith("striate.layers.") and not isinstance(layer, kinds)
        if ours and any(p.ndim > 1 for p in layer.parameters(recurse=False)):
            raise _refused(way, f"{name}, a {type(layer).__name__}, which has its own initialization")
    if not layers:
        raise _refused(way, "a network without linear or convolutional layers")
    for name, layer in layers.items():
        if "weight" not in dict(layer.named_parameters(recurse=False)):
            raise _refused(way, f"{name}, whose weight is computed from other parameters")
        if any(nn.parameter.is_lazy(p) for p in layer.parameters(recurse=False)):
            raise _refused(way, f"{name}, whose shape is not known before the first batch")
    for layer in layers.values():
        _fill(layer, way)


def _refused(way: str, what: str) -> ConfigError:
    return ConfigError("model.init", f"{way} for {what}", "layers with their own weights", "--model.init auto")


def _fill(layer: nn.Module, way: Initialization) -> None:
    weight, bias = layer.get_parameter("weight"), layer.bias
    inputs, outputs = fans(layer)
    if way == "orthogonal":
        _orthogonal(layer, weight)
    elif way == "dirac":
        _FILLS["uniform"](weight, inputs, outputs)
        if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
            pass_on(weight, layer.groups)
    else:
        _FILLS[way](weight, inputs, outputs)
    if isinstance(bias, nn.Parameter):
        bound = 1 / math.sqrt(inputs) if way == "uniform" else 0.0
        nn.init.uniform_(bias, -bound, bound)


def fans(layer: nn.Module) -> tuple[int, int]:
    """Fan-in and fan-out: how many inputs one output is computed from, and how many outputs one input contributes to,
    for stride 1 and without borders."""
    weight = layer.get_parameter("weight")
    if isinstance(layer, LocallyConnected):
        return layer.fan_in, layer.out_channels * math.prod(layer.kernel_size)
    window, groups = math.prod(weight.shape[2:]), getattr(layer, "groups", 1)
    first, second = weight.shape[0] // groups * window, weight.shape[1] * window
    return (first, second) if isinstance(layer, _TRANSPOSED) else (second, first)


def _normal(variance: Callable[[int, int], float]) -> Fill:
    return lambda weight, n, m: nn.init.normal_(weight, 0.0, math.sqrt(variance(n, m)))


def _uniform(variance: Callable[[int, int], float]) -> Fill:
    def fill(weight: nn.Parameter, n: int, m: int) -> object:
        bound = math.sqrt(3 * variance(n, m))
        return nn.init.uniform_(weight, -bound, bound)

    return fill


_FILLS: dict[str, Fill] = {
    "he-normal": _normal(lambda n, _: 2 / n),
    "he-uniform": _uniform(lambda n, _: 2 / n),
    "glorot-normal": _normal(lambda n, m: 2 / (n + m)),
    "glorot-uniform": _uniform(lambda n, m: 2 / (n + m)),
    "lecun-normal": _normal(lambda n, _: 1 / n),
    "normal": _normal(lambda _n, _m: NORMAL_STD**2),
    "uniform": _uniform(lambda n, _: 1 / (3 * n)),
}


def _orthogonal(layer: nn.Module, weight: nn.Parameter) -> None:
    """Make each matrix from inputs to outputs orthogonal: one for each position of a locally connected layer."""
    if not isinstance(layer, LocallyConnected):
        nn.init.orthogonal_(weight)
        return
    for matrix in weight.data.reshape(-1, layer.out_channels, layer.fan_in):
        nn.init.orthogonal_(matrix)


def materialize(module: nn.Module, input_shape: tuple[int, ...]) -> None:
    """Run `module` once, on zeros of `input_shape` (C, *spatial) or (F,), if any parameter or buffer is lazy.

    The initialization draws from torch's random state; modes and other buffers do not change.
    """
    if not is_lazy(module):
        return
    seed = int(torch.randint(2**62, ()))  # drawn outside, so that the random state advances
    with on_trial(module), torch.no_grad():
        torch.manual_seed(seed)
        module(zero_input(module, input_shape, 2))
